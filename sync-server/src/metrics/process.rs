//! What the system says of this process. `/proc` is no disk: nothing is read from one.

use std::fs;

use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use rustix::process::{Resource, getrlimit};

/// Registers what can be found out; what cannot is left out.
pub(super) fn register(all: &mut Registry) {
    if let Some(bytes) = resident_bytes() {
        let help = "Memory that the process has in RAM";
        let memory = ConstGauge::new(bytes);
        all.register_with_unit("process_resident_memory", help, Unit::Bytes, memory);
    }
    if let Some(files) = open_files() {
        let help = "Files and sockets that the process has open";
        all.register("process_open_fds", help, ConstGauge::new(files));
    }
    if let Some(files) = getrlimit(Resource::Nofile).current {
        let help = "Files and sockets that the process may have open";
        let most = ConstGauge::new(i64::try_from(files).unwrap_or(i64::MAX));
        all.register("process_max_fds", help, most);
    }
}

/// Resident memory, in bytes.
fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn open_files() -> Option<i64> {
    let listed = fs::read_dir("/proc/self/fd").ok()?.count();
    // Without the one that lists them.
    i64::try_from(listed.saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_files_are_those_of_this_process() {
        let before = resident_bytes().unwrap();
        let memory = vec![1_u8; 64 << 20];
        assert!(resident_bytes().unwrap() - before > 48 << 20);
        drop(memory);
        let files: Vec<_> = (0..64).map(|_| tempfile::tempfile().unwrap()).collect();
        assert!(open_files().unwrap() > 64);
        drop(files);
    }
}
