//! Reads files whose paths users set: settings, certificates and keys.
//!
//! A path may lead anywhere, and the function's init must not wait for the target. So only regular files are
//! read, up to a limit, and no step waits for another process: a pipe without a writer, a device without an end
//! and a growing file each give a clear error. System files, such as `/etc/hosts`, are read by the libraries
//! that need them.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

/// The size limit of a PEM file, in bytes. All public certificate authorities together take a quarter of it.
pub const PEM_LIMIT: usize = 1024 * 1024;

/// The reason that a file cannot be read: cause and remedy, to be printed after the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No file exists at this path.
    #[error("does not exist; add it to the deployment package (its files are in /var/task), or fix the path")]
    Missing,
    /// The path leads to a directory.
    #[error("is a directory; set the path of a file in it")]
    Directory,
    /// The path leads to a pipe, a socket or a device.
    #[error("is not a regular file; set the path of one")]
    Irregular,
    /// Permission denied.
    #[error("is not readable; make it readable for everyone (chmod 644) in the deployment package")]
    Denied,
    /// The file is larger than the limit, whose bytes this is.
    #[error("is larger than {0} bytes; check the path")]
    TooLarge(usize),
    /// The file is not UTF-8.
    #[error("is not UTF-8; save it as UTF-8")]
    NotText,
    /// Another system error.
    #[error("cannot be read: {0}; check the path")]
    Failed(io::ErrorKind),
}

/// Reads a regular file of at most `limit` bytes.
pub fn read(path: &str, limit: usize) -> Result<Vec<u8>, Unreadable> {
    let refusal = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Unreadable::Missing,
        io::ErrorKind::IsADirectory => Unreadable::Directory,
        io::ErrorKind::PermissionDenied => Unreadable::Denied,
        kind => Unreadable::Failed(kind),
    };
    // Opening a device may already have an effect, so the path is checked first.
    check_regular(&std::fs::metadata(path).map_err(refusal)?, limit)?;
    // The path may have been replaced since. Without the flag, opening a pipe would wait for its other end, and
    // so would reading some files of /proc, which claim to be regular.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(refusal)?;
    check_regular(&file.metadata().map_err(refusal)?, limit)?;
    read_to_limit(file, limit).map_err(refusal)?.ok_or(Unreadable::TooLarge(limit))
}

/// Reads a regular UTF-8 file of at most `limit` bytes.
pub fn read_text(path: &str, limit: usize) -> Result<String, Unreadable> {
    String::from_utf8(read(path, limit)?).map_err(|_| Unreadable::NotText)
}

fn check_regular(metadata: &Metadata, limit: usize) -> Result<(), Unreadable> {
    if metadata.is_dir() {
        return Err(Unreadable::Directory);
    }
    if !metadata.is_file() {
        return Err(Unreadable::Irregular);
    }
    if usize::try_from(metadata.len()).is_ok_and(|length| length <= limit) {
        Ok(())
    } else {
        Err(Unreadable::TooLarge(limit))
    }
}

/// Reads an open file. Returns `None` if it is longer than the limit, even if its metadata says otherwise.
fn read_to_limit(file: File, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let max = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(max).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_str().expect("a path").to_owned();
        let pipe = path("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        let socket = path("socket");
        let _listener = UnixListener::bind(&socket).expect("a socket");
        for irregular in [pipe.as_str(), socket.as_str(), "/dev/zero", "/dev/null"] {
            assert_eq!(read(irregular, 10), Err(Unreadable::Irregular), "{irregular}");
        }
        assert_eq!(read(folder.path().to_str().expect("a path"), 10), Err(Unreadable::Directory));
        assert_eq!(read(&path("absent"), 10), Err(Unreadable::Missing));
        assert_eq!(read(&format!("{pipe}/file"), 10), Err(Unreadable::Failed(io::ErrorKind::NotADirectory)));
        assert_eq!(read("nul\0", 10), Err(Unreadable::Failed(io::ErrorKind::InvalidInput)));
    }

    #[test]
    fn opened_pipe_does_not_wait() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        // As if the pipe had replaced a file after the first check.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).expect("a file");
        let metadata = file.metadata().expect("its metadata");
        assert_eq!(check_regular(&metadata, 10), Err(Unreadable::Irregular));
    }

    #[test]
    fn limit_holds_for_any_size() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let path = path.to_str().expect("a path");
        for (length, read_back) in [(0, true), (10, true), (11, false), (10_000_000, false)] {
            fs::write(path, vec![b'x'; length]).expect("a file");
            let bytes = read(path, 10);
            assert_eq!(bytes.as_ref().map(Vec::len).ok(), read_back.then_some(length), "{bytes:?}");
            assert_eq!(bytes.err(), (!read_back).then_some(Unreadable::TooLarge(10)));
        }
        // Files of /proc claim to be empty.
        assert_eq!(read("/proc/self/maps", 10), Err(Unreadable::TooLarge(10)));
    }

    #[test]
    fn text_is_utf_8() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "ä").expect("a file");
        assert_eq!(read_text(path.to_str().expect("a path"), 10).as_deref(), Ok("ä"));
        fs::write(&path, [0xff]).expect("a file");
        assert_eq!(read_text(path.to_str().expect("a path"), 10), Err(Unreadable::NotText));
    }

    #[test]
    fn file_without_permission_is_denied() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "x").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("a mode");
        // Root can read it anyway.
        let read = read(path.to_str().expect("a path"), 10);
        assert!(matches!(read, Err(Unreadable::Denied) | Ok(_)), "{read:?}");
    }

    #[test]
    fn each_error_names_cause_and_remedy() {
        let errors = [
            Unreadable::Missing,
            Unreadable::Directory,
            Unreadable::Irregular,
            Unreadable::Denied,
            Unreadable::TooLarge(262_144),
            Unreadable::NotText,
            Unreadable::Failed(io::ErrorKind::NotADirectory),
        ]
        .map(|unreadable| format!("{:?} {unreadable}", "/var/task/rotel.env"));
        insta::assert_snapshot!(errors.join("\n"), @r#"
        "/var/task/rotel.env" does not exist; add it to the deployment package (its files are in /var/task), or fix the path
        "/var/task/rotel.env" is a directory; set the path of a file in it
        "/var/task/rotel.env" is not a regular file; set the path of one
        "/var/task/rotel.env" is not readable; make it readable for everyone (chmod 644) in the deployment package
        "/var/task/rotel.env" is larger than 262144 bytes; check the path
        "/var/task/rotel.env" is not UTF-8; save it as UTF-8
        "/var/task/rotel.env" cannot be read: not a directory; check the path
        "#);
    }
}
