//! The boundary: the functions that C calls, and the only `unsafe` of the crate.
//!
//! Each function reads what pointers lead to with the helpers at the end, hands
//! checked values on, and writes results where the caller has room. What no
//! function can check, the header demands: a pointer that is not null leads to
//! as many elements as are said beside it, and no other thread writes there.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::path::Path;
use std::ptr;

use crate::failure::{Failure, guarded, last_error};
use crate::layout::{Options, Tensor, Value};
use crate::session::{Described, Output, RESULTS, SESSIONS, Session, Settings};
use crate::tensor::{Given, MAX_RANK};

/// A handle as C holds it: a number in the guise of a pointer, never followed.
type Handle = *mut c_void;

#[unsafe(no_mangle)]
extern "C" fn campana_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

#[unsafe(no_mangle)]
extern "C" fn campana_last_error() -> *const c_char {
    last_error()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn campana_session_open(
    path: *const c_char,
    options: *const Options,
    session: *mut Handle,
) -> i32 {
    // SAFETY: the pointers are what the header demands.
    guarded(|| unsafe {
        write(session, ptr::null_mut(), "session")?;
        let settings = settings(options)?;
        let path = text(path, "path")?;
        let name = path.to_string_lossy();
        let opened = Session::open(as_path(path)?, &name, settings)?;
        write(session, handle_of(SESSIONS.insert(opened)), "session")
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn campana_session_open_memory(
    file: *const c_void,
    len_bytes: usize,
    options: *const Options,
    session: *mut Handle,
) -> i32 {
    // SAFETY: the pointers are what the header demands.
    guarded(|| unsafe {
        write(session, ptr::null_mut(), "session")?;
        let settings = settings(options)?;
        let file = bytes(file, len_bytes, "file")?;
        let opened = Session::parse(file, settings)?;
        write(session, handle_of(SESSIONS.insert(opened)), "session")
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn campana_session_inputs(
    session: Handle,
    values: *mut Value,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    // SAFETY: the pointers are what the header demands.
    guarded(|| unsafe {
        let session = SESSIONS.get(session.addr())?;
        let inputs = session.inputs().iter().map(value);
        write_list(inputs, values, capacity, count, "values")
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn campana_session_outputs(
    session: Handle,
    values: *mut Value,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    // SAFETY: the pointers are what the header demands.
    guarded(|| unsafe {
        let session = SESSIONS.get(session.addr())?;
        let outputs = session.outputs().iter().map(value);
        write_list(outputs, values, capacity, count, "values")
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn campana_session_run(
    session: Handle,
    inputs: *const Tensor,
    input_count: usize,
    result: *mut Handle,
) -> i32 {
    // SAFETY: the pointers are what the header demands.
    guarded(|| unsafe {
        write(result, ptr::null_mut(), "result")?;
        let session = SESSIONS.get(session.addr())?;
        let declared = session.inputs().len();
        if input_count != declared {
            return Err(Failure::argument(format!(
                "the model has {declared} inputs, {input_count} were given"
            )));
        }
        let inputs: Vec<Tensor> = list(inputs, input_count, "inputs")?;
        let given = inputs
            .iter()
            .enumerate()
            .map(|(position, tensor)| given(position, tensor))
            .collect::<Result<Vec<_>, Failure>>()?;
        let made = session.run(&given)?;
        write(result, handle_of(RESULTS.insert(made)), "result")
    })
}

#[unsafe(no_mangle)]
extern "C" fn campana_session_free(session: Handle) -> i32 {
    guarded(|| match session.addr() {
        0 => Ok(()),
        handle => SESSIONS.remove(handle).map(Session::end),
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn campana_result_outputs(
    result: Handle,
    tensors: *mut Tensor,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    // SAFETY: the pointers are what the header demands.
    guarded(|| unsafe {
        let result = RESULTS.get(result.addr())?;
        let outputs = result.outputs.iter().map(tensor);
        write_list(outputs, tensors, capacity, count, "tensors")
    })
}

#[unsafe(no_mangle)]
extern "C" fn campana_result_free(result: Handle) -> i32 {
    guarded(|| match result.addr() {
        0 => Ok(()),
        handle => RESULTS.remove(handle).map(drop),
    })
}

fn handle_of(number: usize) -> Handle {
    ptr::without_provenance_mut(number)
}

/// What a model declares; the pointers last as long as the session.
fn value(described: &Described) -> Value {
    let dims = described.dims.as_deref();
    Value {
        name: described.name.as_ptr(),
        dims: dims.map_or(ptr::null(), <[i64]>::as_ptr),
        element_type: described.element_type,
        rank: dims.map_or(-1, |dims| dims.len() as i32),
    }
}

/// An output; the pointers last as long as the result.
fn tensor(output: &Output) -> Tensor {
    Tensor {
        name: output.name.as_ptr(),
        dims: output.dims.as_ptr(),
        data: output.bytes().as_ptr().cast(),
        len_bytes: output.bytes().len(),
        element_type: output.element_type.to_onnx(),
        rank: output.dims.len() as i32,
    }
}

/// An input as C gave it, checked, and its name where it has one.
///
/// # Safety
///
/// Each pointer is null or leads to as much as the tensor says, which stays as
/// it is for `'_`.
unsafe fn given(position: usize, tensor: &Tensor) -> Result<(Option<&str>, Given<'_>), Failure> {
    let name = match tensor.name.is_null() {
        true => None,
        false => {
            // SAFETY: the caller's.
            let name = unsafe { text(tensor.name, "name")? }.to_str();
            let no_utf8 =
                |_| Failure::argument(format!("the name of input {position} is no UTF-8"));
            Some(name.map_err(no_utf8)?)
        }
    };
    let what = match name {
        Some(name) => format!("input '{name}'"),
        None => format!("input {position}"),
    };
    if !(0..=MAX_RANK).contains(&tensor.rank) {
        return Err(Failure::argument(format!(
            "{what} has rank {}; 0 to {MAX_RANK} are possible",
            tensor.rank
        )));
    }
    let (rank, of_dims) = (tensor.rank as usize, format!("{what}: dims"));
    // SAFETY: the caller's.
    let dims: Vec<i64> = unsafe { list(tensor.dims, rank, &of_dims)? };
    let of_data = format!("{what}: data");
    // SAFETY: the caller's.
    let data = unsafe { bytes(tensor.data, tensor.len_bytes, &of_data)? };
    Ok((name, Given::new(&what, tensor.element_type, &dims, data)?))
}

/// The options as C gave them.
///
/// # Safety
///
/// `options` is null, or leads to a struct of the size that it begins with.
unsafe fn settings(options: *const Options) -> Result<Settings, Failure> {
    if options.is_null() {
        return Settings::new(0, 0);
    }
    // SAFETY: not null, and every version of the struct begins with its size.
    let struct_size = unsafe { options.cast::<usize>().read_unaligned() };
    if struct_size != size_of::<Options>() {
        return Err(Failure::argument(format!(
            "options.struct_size is {struct_size}, not {}: begin with CAMPANA_OPTIONS_INIT",
            size_of::<Options>()
        )));
    }
    // SAFETY: not null, and of the size that the caller's struct says it has.
    let options = unsafe { options.read_unaligned() };
    Settings::new(options.threads, options.max_memory)
}

/// The path of these bytes: as they are, or as UTF-8 where paths are no bytes.
fn as_path(path: &CStr) -> Result<&Path, Failure> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        Ok(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())))
    }
    #[cfg(not(unix))]
    {
        let path = path.to_str();
        path.map(Path::new)
            .map_err(|_| Failure::argument("path is no UTF-8"))
    }
}

fn null(what: &str) -> Failure {
    Failure::argument(format!("{what} is NULL"))
}

/// A string that ends with its first zero.
///
/// # Safety
///
/// `text` is null or leads to such a string, which stays as it is for `'a`.
unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a CStr, Failure> {
    if text.is_null() {
        return Err(null(what));
    }
    // SAFETY: not null; the header demands a string that ends with a zero and
    // stays as it is for as long as the text.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// As many bytes as the caller says there are; none may be at NULL.
///
/// # Safety
///
/// `data` is null or leads to as many bytes, which stay as they are for `'a`.
unsafe fn bytes<'a>(
    data: *const c_void,
    len_bytes: usize,
    what: &str,
) -> Result<&'a [u8], Failure> {
    if len_bytes == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(null(what));
    }
    if isize::try_from(len_bytes).is_err() || data.addr().checked_add(len_bytes).is_none() {
        return Err(Failure::argument(format!(
            "{what} has {len_bytes} bytes, more than memory has"
        )));
    }
    // SAFETY: not null, and no longer than memory; the header demands that many
    // bytes, which stay as they are for as long as the slice.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len_bytes) })
}

/// A copy of as many elements as the caller says there are, in numbers of which
/// any bits are one, or structs of such numbers and pointers.
///
/// # Safety
///
/// `elements` is null or leads to as many.
unsafe fn list<T: Copy>(elements: *const T, count: usize, what: &str) -> Result<Vec<T>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if elements.is_null() {
        return Err(null(what));
    }
    let at = (0..count).map(|i| elements.wrapping_add(i));
    // SAFETY: not null, and within the elements that the header demands.
    Ok(at.map(|at| unsafe { at.read_unaligned() }).collect())
}

/// Writes to where the caller wants a result.
///
/// # Safety
///
/// `place` is null or leads to room for one value.
unsafe fn write<T>(place: *mut T, value: T, what: &str) -> Result<(), Failure> {
    if place.is_null() {
        return Err(null(what));
    }
    // SAFETY: not null; the header demands room for one value.
    unsafe { place.write_unaligned(value) };
    Ok(())
}

/// Writes as many values as there is room for, and how many there are.
///
/// # Safety
///
/// `places` is null or leads to room for `capacity` values, `count` is null or
/// leads to room for one.
unsafe fn write_list<T>(
    values: impl ExactSizeIterator<Item = T>,
    places: *mut T,
    capacity: usize,
    count: *mut usize,
    what: &str,
) -> Result<(), Failure> {
    let len = values.len();
    if capacity > 0 && places.is_null() {
        return Err(null(what));
    }
    if !count.is_null() {
        // SAFETY: the caller's.
        unsafe { write(count, len, "count")? };
    }
    for (i, value) in values.take(capacity).enumerate() {
        // SAFETY: within the room that the caller has.
        unsafe { write(places.wrapping_add(i), value, what)? };
    }
    Ok(())
}
