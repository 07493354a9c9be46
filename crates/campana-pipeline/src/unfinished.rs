//! Files and folders that are not finished: their names, which of them this process has,
//! and the end of those whose process was killed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use campana_tensor::Fingerprint;

const PREFIX: &str = ".campana-";
const SUFFIX: &str = ".tmp";

/// Age of a leftover whose process this machine knows nothing of.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// This process's unfinished files; `None` once it is ending.
static UNFINISHED: Mutex<Option<BTreeSet<PathBuf>>> = Mutex::new(Some(BTreeSet::new()));

/// Held while finished files are moved to their places.
static PLACING: Mutex<()> = Mutex::new(());

/// Whether a file of this process was moved to its place.
static HAS_PLACED: AtomicBool = AtomicBool::new(false);

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Removes all files that this process has not finished, and lets no others
/// begin: what is done before the process ends in the midst of its work.
/// Waits for those that are being moved to their places if `waits`. Returns
/// whether any file was finished before.
pub fn discard_unfinished(waits: bool) -> bool {
    let placing = waits.then(|| lock(&PLACING));
    if let Some(files) = lock(&UNFINISHED).take() {
        for path in files {
            remove(&path);
        }
    }
    // Kept for ever: what waits for it does not go on before the process ends.
    std::mem::forget(placing);
    HAS_PLACED.load(Ordering::Relaxed)
}

/// Removes the files that this process has not finished, as far as no other thread
/// is about to change them: what can be done where there is no memory left.
pub fn try_discard_unfinished() {
    if let Ok(mut files) = UNFINISHED.try_lock() {
        for path in files.take().into_iter().flatten() {
            remove(&path);
        }
    }
}

/// Files are being moved to their places as long as this lives.
pub(crate) struct Placing(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Placing {
    pub(crate) fn begin() -> Self {
        Self(lock(&PLACING))
    }

    /// A file is in its place, and no longer unfinished.
    pub(crate) fn placed(&self, temporary: &Path) {
        forget(temporary);
        HAS_PLACED.store(true, Ordering::Relaxed);
    }
}

/// Takes a name in a folder for a new unfinished file or folder and makes it; an error
/// where the process is ending.
pub(crate) fn begin<T>(
    folder: &Path,
    create: impl FnOnce(&Path) -> std::io::Result<T>,
) -> std::io::Result<(PathBuf, T)> {
    sweep(folder);
    let mut unfinished = lock(&UNFINISHED);
    let files = unfinished
        .as_mut()
        .ok_or_else(|| std::io::Error::other("interrupted"))?;
    let path = folder.join(Name::next().to_string());
    let made = create(&path)?;
    files.insert(path.clone());
    Ok((path, made))
}

/// An unfinished file is removed or has another name.
pub(crate) fn forget(temporary: &Path) {
    if let Some(files) = lock(&UNFINISHED).as_mut() {
        files.remove(temporary);
    }
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what killed processes left in a folder.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if !name.starts_with(PREFIX) || !name.ends_with(SUFFIX) {
            continue;
        }
        let is_abandoned = match Name::parse(name).and_then(|name| name.is_of_living_process()) {
            Some(lives) => !lives,
            None => is_old(&entry),
        };
        if is_abandoned {
            remove(&entry.path());
        }
    }
}

/// Removes a file, or a folder with all that is in it.
fn remove(path: &Path) {
    let is_folder = path.symlink_metadata().is_ok_and(|data| data.is_dir());
    let _ = match is_folder {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
}

fn is_old(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| {
        let age = SystemTime::now().duration_since(modified);
        age.is_ok_and(|age| age > ABANDONED_AFTER)
    })
}

/// What the name of an unfinished file tells of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    /// The machine since it was started, and its set of process numbers:
    /// folders may be shared with others.
    machine: u32,
    process: u32,
    /// When the process began, in the system's ticks.
    began: u64,
    number: u64,
}

impl Name {
    fn next() -> Self {
        let process = std::process::id();
        Self {
            machine: machine(),
            process,
            began: beginning_of(process).unwrap_or_default(),
            number: COUNTER.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let parts = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let mut parts = parts.split('-');
        let mut part = || parts.next();
        Some(Self {
            machine: u32::from_str_radix(part()?, 16).ok()?,
            process: part()?.parse().ok()?,
            began: part()?.parse().ok()?,
            number: part()?.parse().ok()?,
        })
    }

    /// Whether the process that makes the file lives; `None` where that cannot
    /// be known from here.
    fn is_of_living_process(&self) -> Option<bool> {
        if self.machine != machine() || beginning_of(std::process::id()).is_none() {
            return None;
        }
        Some(beginning_of(self.process) == Some(self.began))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            machine,
            process,
            began,
            number,
        } = self;
        write!(
            f,
            "{PREFIX}{machine:08x}-{process}-{began}-{number}{SUFFIX}"
        )
    }
}

fn machine() -> u32 {
    static MACHINE: OnceLock<u32> = OnceLock::new();
    *MACHINE.get_or_init(|| {
        let mut fingerprint = Fingerprint::default();
        for file in [
            "/proc/sys/kernel/random/boot_id",
            "/proc/sys/kernel/hostname",
        ] {
            fingerprint.bytes(&fs::read(file).unwrap_or_default());
        }
        let processes = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        fingerprint.bytes(processes.as_os_str().as_encoded_bytes());
        fingerprint.value() as u32
    })
}

/// When a process began, as Linux tells it; `None` where there is none, or
/// another system.
fn beginning_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field, a name in parentheses, may hold spaces; this is the 22nd.
    let behind_name = &status[status.rfind(')')? + 1..];
    behind_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_process() {
        let name = Name::next();
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        assert_ne!(Name::next(), name);
        for other in [".campana-AbCdEf.tmp", ".campana-1-2-3.tmp", "campana"] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn leftovers_of_processes_that_are_gone_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let own = Name::next();
        // Process numbers are used again; when they began is not.
        let gone = Name {
            began: own.began + 1,
            ..own
        };
        let elsewhere = Name {
            machine: !own.machine,
            ..gone
        };
        let kept = [
            own.to_string(),
            elsewhere.to_string(),
            ".campana-notes".to_owned(),
            ".campana-AbCdEf.tmp".to_owned(),
        ];
        for name in kept.iter().chain([&gone.to_string()]) {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let number = gone.number + 1;
        let gone_folder = folder.path().join(Name { number, ..gone }.to_string());
        fs::create_dir(&gone_folder).unwrap();
        fs::write(gone_folder.join("half.c"), "int").unwrap();
        let long_ago = SystemTime::now() - 2 * ABANDONED_AFTER;
        let old = fs::File::create(folder.path().join(".campana-OlDoNe.tmp")).unwrap();
        old.set_modified(long_ago).unwrap();
        sweep(folder.path());
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut kept = kept.to_vec();
        kept.sort();
        assert_eq!(left, kept);
    }
}
