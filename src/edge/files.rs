//! The one reader of files that users name: settings, certificates and keys.
//!
//! A path may lead anywhere, and the function's init must not wait for where it leads. So only regular files are read, up to a
//! limit, and no step waits for another process: a pipe without a writer, a device without an end and a file that grows
//! are each one clear error. The system's own files, such as `/etc/hosts`, are left to what needs them.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

/// The limit for a file of PEM blocks. All public authorities together are a quarter of it.
pub const PEM_LIMIT: usize = 1024 * 1024;

/// The reason why a file is not read, to stand behind its path: cause and remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No file has this path.
    #[error("is not there; put the file into the bundle, whose files are in /var/task, or correct the path")]
    Missing,
    /// The path leads to a directory.
    #[error("is a directory; write the path of the file in it")]
    Directory,
    /// The path leads to a pipe, a socket or a device.
    #[error("is not a regular file; write the path of one")]
    Irregular,
    /// The extension lacks the permission.
    #[error("may not be read; make it readable for everyone (chmod 644) in the bundle")]
    Denied,
    /// The file is longer than the limit, in bytes.
    #[error("is larger than {0} bytes; check the path")]
    TooLarge(usize),
    /// The file holds other bytes than UTF-8.
    #[error("is not UTF-8; save it as UTF-8")]
    NotText,
    /// Another error of the system.
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
    // To open a device may already have an effect, so the path is looked at first.
    regular(&std::fs::metadata(path).map_err(refusal)?, limit)?;
    // Since then another file may have taken the path. To open a pipe would wait for its other end, but for the flag; so
    // would to read from some files of /proc, which call themselves regular.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(refusal)?;
    regular(&file.metadata().map_err(refusal)?, limit)?;
    contents(file, limit).map_err(refusal)?.ok_or(Unreadable::TooLarge(limit))
}

/// Reads a regular file of at most `limit` bytes, which are UTF-8.
pub fn read_text(path: &str, limit: usize) -> Result<String, Unreadable> {
    String::from_utf8(read(path, limit)?).map_err(|_| Unreadable::NotText)
}

fn regular(about: &Metadata, limit: usize) -> Result<(), Unreadable> {
    if about.is_dir() {
        return Err(Unreadable::Directory);
    }
    if !about.is_file() {
        return Err(Unreadable::Irregular);
    }
    if usize::try_from(about.len()).is_ok_and(|length| length <= limit) {
        Ok(())
    } else {
        Err(Unreadable::TooLarge(limit))
    }
}

/// `None` where the file turns out longer than its metadata says, and longer than the limit.
fn contents(file: File, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes)?;
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
        // As if the pipe had taken the path of a file that was looked at.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).expect("a file");
        let about = file.metadata().expect("its metadata");
        assert_eq!(regular(&about, 10), Err(Unreadable::Irregular));
    }

    #[test]
    fn limit_holds_whatever_the_size() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let path = path.to_str().expect("a path");
        for (length, read_back) in [(0, true), (10, true), (11, false), (10_000_000, false)] {
            fs::write(path, vec![b'x'; length]).expect("a file");
            let bytes = read(path, 10);
            assert_eq!(bytes.as_ref().map(Vec::len).ok(), read_back.then_some(length), "{bytes:?}");
            assert_eq!(bytes.err(), (!read_back).then_some(Unreadable::TooLarge(10)));
        }
        // Files of /proc say that they hold nothing.
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
        // Root reads it all the same.
        let read = read(path.to_str().expect("a path"), 10);
        assert!(matches!(read, Err(Unreadable::Denied) | Ok(_)), "{read:?}");
    }

    #[test]
    fn each_refusal_names_cause_and_remedy() {
        let refusals = [
            Unreadable::Missing,
            Unreadable::Directory,
            Unreadable::Irregular,
            Unreadable::Denied,
            Unreadable::TooLarge(262_144),
            Unreadable::NotText,
            Unreadable::Failed(io::ErrorKind::NotADirectory),
        ]
        .map(|unreadable| format!("{:?} {unreadable}", "/var/task/rotel.env"));
        insta::assert_snapshot!(refusals.join("\n"), @r#"
        "/var/task/rotel.env" is not there; put the file into the bundle, whose files are in /var/task, or correct the path
        "/var/task/rotel.env" is a directory; write the path of the file in it
        "/var/task/rotel.env" is not a regular file; write the path of one
        "/var/task/rotel.env" may not be read; make it readable for everyone (chmod 644) in the bundle
        "/var/task/rotel.env" is larger than 262144 bytes; check the path
        "/var/task/rotel.env" is not UTF-8; save it as UTF-8
        "/var/task/rotel.env" cannot be read: not a directory; check the path
        "#);
    }
}
