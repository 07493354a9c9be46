//! Errors as C sees them: a number, and a text that the thread keeps.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use campana_ir::format;
use campana_runtime::{PlanError, PlanErrorKind, RunError, RunErrorKind};

/// Who must act, as `campana_status` in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Status {
    Ok = 0,
    Argument = 1,
    Handle = 2,
    File = 3,
    Format = 4,
    Unsupported = 5,
    Limit = 6,
    Run = 7,
    Internal = 8,
}

/// An error on its way to C.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(status: Status, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(Status::Argument, text)
    }

    /// The same with the name of the file before it.
    pub(crate) fn in_file(self, name: &str) -> Self {
        Self {
            text: format!("cannot open '{name}': {}", self.text),
            ..self
        }
    }
}

impl From<format::Error> for Failure {
    fn from(error: format::Error) -> Self {
        use campana_onnx::ErrorKind as File;
        use format::ErrorKind;
        let status = match error.kind() {
            ErrorKind::File(File::Io) => Status::File,
            ErrorKind::File(File::Unsupported) | ErrorKind::Unsupported => Status::Unsupported,
            ErrorKind::File(File::Limit) | ErrorKind::Limit => Status::Limit,
            _ => Status::Format,
        };
        Self::new(status, causes(&error))
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let status = match error.kind() {
            PlanErrorKind::Invalid => Status::Format,
            PlanErrorKind::Limit => Status::Limit,
            _ => Status::Unsupported,
        };
        Self::new(status, causes(&error))
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let status = match error.kind() {
            RunErrorKind::Input => Status::Argument,
            _ => Status::Run,
        };
        Self::new(status, error.to_string())
    }
}

/// The error and what caused it; causes that it already tells are left out.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// The text of this thread's last error; empty where there was none. It stays
/// where it is until the thread's next error.
pub(crate) fn last_error() -> *const c_char {
    const NONE: &CStr = c"";
    let text = LAST_ERROR.try_with(|last| last.borrow().as_ptr());
    text.unwrap_or(NONE.as_ptr())
}

/// Does the work of a function of the interface: an error or a panic becomes
/// its status, and its text the thread's last error.
pub(crate) fn guarded(work: impl FnOnce() -> Result<(), Failure>) -> i32 {
    // What panics half-way has changed nothing that is used again: handles are
    // looked up anew, and the engine's locks outlive a panic.
    let result = catch_unwind(AssertUnwindSafe(work));
    let failure = match result {
        Ok(Ok(())) => return Status::Ok as i32,
        Ok(Err(failure)) => failure,
        Err(panic) => internal(&*panic),
    };
    let mut bytes = failure.text.into_bytes();
    bytes.retain(|&byte| byte != 0);
    let text = CString::new(bytes).unwrap_or_default();
    // At the end of a thread its text may be gone already.
    _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = text);
    failure.status as i32
}

/// What a panic says.
pub(crate) fn internal(panic: &(dyn Any + Send)) -> Failure {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
    let message = message.unwrap_or("no message");
    Failure::new(
        Status::Internal,
        format!("a defect of campana, please report it: {message}"),
    )
}

#[cfg(test)]
#[expect(unsafe_code, reason = "reads the text as C does")]
mod tests {
    use super::*;

    fn text() -> String {
        // SAFETY: the text of this thread, which has no error meanwhile.
        let text = unsafe { CStr::from_ptr(last_error()) };
        text.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_and_a_text() {
        let values: Vec<u8> = Vec::new();
        let status = guarded(|| {
            assert!(values.len() > 3, "a hull of {} points", values.len());
            Ok(())
        });
        assert_eq!(status, Status::Internal as i32);
        assert!(text().ends_with("a hull of 0 points"), "{}", text());
        let status = guarded(|| std::panic::panic_any(7));
        assert_eq!(status, Status::Internal as i32);
        assert!(text().ends_with("no message"), "{}", text());
    }

    #[test]
    fn the_text_is_the_threads_own_and_outlives_success() {
        guarded(|| Err(Failure::argument("a nul\0 within")));
        assert_eq!(guarded(|| Ok(())), 0);
        assert_eq!(text(), "a nul within");
        let elsewhere = std::thread::spawn(text).join().unwrap();
        assert_eq!(elsewhere, "");
    }
}
