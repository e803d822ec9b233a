//! What the kernel says of this process's control group, version 1, 2 or both.
//!
//! Files, units and meaning: the kernel's `admin-guide/cgroup-v2` and `cgroup-v1/memory`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Limits from here on are none: version 1 writes "no limit" as the largest multiple of a page.
const NO_LIMIT: u64 = 1 << 60;

/// Memory of a control group, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// In use and not reclaimable at once: without file pages nobody touched lately. This is what
    /// an orchestrator looks at when it evicts.
    pub(crate) used: u64,
    /// Above that, processes are killed.
    pub(crate) limit: u64,
}

/// Where the figures are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cgroup {
    memory: Option<MemoryFiles>,
    cpu: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct MemoryFiles {
    used: PathBuf,
    stat: PathBuf,
    /// Name of the line of `stat` that counts reclaimable pages.
    reclaimable: &'static str,
    limit: u64,
}

/// Names of one version's files.
struct Names {
    limit: &'static str,
    used: &'static str,
    reclaimable: &'static str,
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};
const V2: Names =
    Names { limit: "memory.max", used: "memory.current", reclaimable: "inactive_file" };

impl Cgroup {
    /// The group of this process; empty where there is none, as outside of Linux.
    pub(crate) fn of_this_process() -> Self {
        let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::under(Path::new("/sys/fs/cgroup"), &membership)
    }

    /// The group that the lines of `/proc/self/cgroup` name, below the place where groups are
    /// mounted.
    fn under(root: &Path, membership: &str) -> Self {
        let home = |controller: &str| -> (bool, Vec<PathBuf>) {
            let mut unified = None;
            for line in membership.lines() {
                let mut parts = line.splitn(3, ':').skip(1);
                let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                    continue;
                };
                if controllers.split(',').any(|name| name == controller) {
                    return (true, upwards(&root.join(controller), path));
                }
                if controllers.is_empty() {
                    unified = Some(path);
                }
            }
            (false, upwards(root, unified.unwrap_or_default()))
        };
        let (first, places) = home("memory");
        let names = if first { &V1 } else { &V2 };
        // A limit of any group above holds, too; the tightest one counts.
        let memory = places
            .into_iter()
            .filter_map(|place| {
                let limit = number(&place.join(names.limit)).filter(|limit| *limit < NO_LIMIT)?;
                Some(MemoryFiles {
                    used: place.join(names.used),
                    stat: place.join("memory.stat"),
                    reclaimable: names.reclaimable,
                    limit,
                })
            })
            .min_by_key(|files| files.limit);
        let cpu = home("cpu").1.into_iter().map(|place| place.join("cpu.stat"));
        Self { memory, cpu: cpu.into_iter().find(|file| file.is_file()) }
    }

    /// Memory now; `None` without a limit.
    pub(crate) fn memory(&self) -> Option<Memory> {
        let files = self.memory.as_ref()?;
        let reclaimable = line(&files.stat, files.reclaimable).unwrap_or(0);
        let used = number(&files.used)?.saturating_sub(reclaimable);
        Some(Memory { used, limit: files.limit })
    }

    /// How long the group was kept from running although it wanted to, since it exists.
    pub(crate) fn throttled(&self) -> Option<Duration> {
        let file = self.cpu.as_ref()?;
        let micros = || line(file, "throttled_usec").map(Duration::from_micros);
        micros().or_else(|| line(file, "throttled_time").map(Duration::from_nanos))
    }
}

/// A group and those above it, up to the mount. Inside of a container the path may be one that only
/// the host sees: then the mount itself is the group.
fn upwards(mount: &Path, path: &str) -> Vec<PathBuf> {
    let plain = !path.split('/').any(|part| part == "..");
    let below =
        Some(mount.join(path.trim_start_matches('/'))).filter(|place| plain && place.is_dir());
    let start = below.unwrap_or_else(|| mount.to_owned());
    start.ancestors().take_while(|place| place.starts_with(mount)).map(Path::to_owned).collect()
}

/// A file that holds one number.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number behind a name in a file of such lines.
fn line(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn version_2_as_in_a_container() {
        let root = tree(&[
            ("memory.max", "1000\n"),
            ("memory.current", "900\n"),
            ("memory.stat", "anon 500\ninactive_file 150\nactive_file 1\n"),
            ("cpu.stat", "usage_usec 7\nnr_throttled 2\nthrottled_usec 1500000\n"),
        ]);
        for membership in ["0::/\n", "0::/../../kubepods/x\n", ""] {
            let group = Cgroup::under(root.path(), membership);
            assert_eq!(group.memory(), Some(Memory { used: 750, limit: 1000 }));
            assert_eq!(group.throttled(), Some(Duration::from_millis(1500)));
        }
    }

    #[test]
    fn the_tightest_limit_above_counts() {
        let root = tree(&[
            ("a/memory.max", "4000\n"),
            ("a/memory.current", "3000\n"),
            ("a/memory.stat", "inactive_file 0\n"),
            ("a/b/memory.max", "max\n"),
            ("a/b/memory.current", "10\n"),
        ]);
        let group = Cgroup::under(root.path(), "0::/a/b\n");
        assert_eq!(group.memory(), Some(Memory { used: 3000, limit: 4000 }));
        assert_eq!(group.throttled(), None);
    }

    #[test]
    fn version_1_beside_an_empty_version_2() {
        let root = tree(&[
            ("memory/pod/memory.limit_in_bytes", "2000\n"),
            ("memory/pod/memory.usage_in_bytes", "1900\n"),
            ("memory/pod/memory.stat", "cache 1\ninactive_file 5\ntotal_inactive_file 400\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cpu/cpu.stat", "nr_periods 0\nthrottled_time 2000000000\n"),
        ]);
        let group = Cgroup::under(root.path(), "4:memory:/pod\n1:cpu,cpuacct:/elsewhere\n0::/\n");
        assert_eq!(group.memory(), Some(Memory { used: 1500, limit: 2000 }));
        assert_eq!(group.throttled(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn without_control_groups_there_are_no_figures() {
        let root = tree(&[]);
        let group = Cgroup::under(root.path(), "");
        assert_eq!(group, Cgroup::default());
        assert_eq!((group.memory(), group.throttled()), (None, None));
    }
}
