//! What a process takes of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The memory that a process has in RAM, in bytes.
#[track_caller]
pub fn resident_bytes(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: usize = kib.and_then(|kib| kib.parse().ok()).expect("it is in kB");
    kib * 1024
}

/// How long a process's threads have run, by the scheduler's count.
pub struct Used {
    pid: u32,
    /// Of every thread that was ever seen. A thread's time is gone with it: what it ran after it was last seen is missed.
    threads: BTreeMap<u32, Duration>,
}

impl Used {
    /// By this process, none of it counted yet.
    pub fn by(pid: u32) -> Self {
        let threads = BTreeMap::new();
        Self { pid, threads }
    }

    /// All threads until now. Called often enough, it misses none: an idle thread lives for seconds.
    pub fn until_now(&mut self) -> Duration {
        let tasks = format!("/proc/{}/task", self.pid);
        for task in fs::read_dir(tasks).expect("the process is there") {
            let task = task.expect("the process is there");
            // A thread may end between the two.
            let Ok(said) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let mut numbers = said.split(' ').map(str::parse);
            let Some(Ok(nanoseconds)) = numbers.next() else {
                panic!("{said:?} does not begin with a time")
            };
            let id = task.file_name().to_string_lossy().parse();
            let id = id.expect("threads are numbers");
            self.threads.insert(id, Duration::from_nanos(nanoseconds));
        }
        self.threads.values().sum()
    }
}
