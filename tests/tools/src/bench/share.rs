//! A share of a core, as a function with little memory has it: a control group with a quota.

use std::fs;
use std::path::{Path, PathBuf};

use lambda_sandbox::Extension;

/// Platform: at 128 MB it is about 7 % of a core. A short period, so that an init does not fit into the first of them.
const QUOTA_US: u32 = 1_400;
const PERIOD_US: u32 = 20_000;
/// Where the second version is mounted, and the controller for the CPU of the first.
const UNIFIED: &str = "/sys/fs/cgroup";
const CPU: &str = "/sys/fs/cgroup/cpu";

/// A control group. Dropped, it is removed, if no process is left in it.
#[derive(Debug)]
pub(crate) struct Share(PathBuf);

impl Share {
    /// Makes one; the text is why there is none.
    pub(crate) fn new() -> Result<Self, String> {
        let name = format!("lambda-sandbox-{}", std::process::id());
        if Path::new(UNIFIED).join("cgroup.controllers").exists() {
            // It may be there already, and then this may be denied.
            let _ = fs::write(Path::new(UNIFIED).join("cgroup.subtree_control"), "+cpu");
            return Self::with(
                Path::new(UNIFIED).join(name),
                &[("cpu.max", format!("{QUOTA_US} {PERIOD_US}"))],
            );
        }
        let period = ("cpu.cfs_period_us", PERIOD_US.to_string());
        Self::with(Path::new(CPU).join(name), &[period, ("cpu.cfs_quota_us", QUOTA_US.to_string())])
    }

    fn with(folder: PathBuf, settings: &[(&str, String)]) -> Result<Self, String> {
        fs::create_dir(&folder).map_err(|error| format!("not measured: {}: {error}", folder.display()))?;
        let share = Self(folder);
        for (file, value) in settings {
            let path = share.0.join(file);
            fs::write(&path, value).map_err(|error| format!("not measured: {}: {error}", path.display()))?;
        }
        Ok(share)
    }

    /// The extension within it. A shell goes ahead, of every extension alike.
    pub(crate) fn of(&self, extension: Extension) -> Extension {
        let processes = self.0.join("cgroup.procs").display().to_string();
        let script = r#"echo $$ >"$1"; shift; exec "$@""#;
        extension.under("/bin/sh", ["-c".to_owned(), script.to_owned(), "sh".to_owned(), processes])
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
