//! Real time, for whoever starts simulations: the clocks of the standard library stand still wherever the simulation is linked
//! in, because it answers for the system's. These calls go to the kernel past it.

use std::{process::Child, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
    time::{ClockId, clock_gettime},
};

/// Since some moment in the past; it never runs backwards.
pub fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Waits until a process has ended, for so long at most; says whether it has.
pub fn wait(child: &Child, at_most: Duration) -> bool {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("our own process can be watched");
    let end = now() + at_most;
    loop {
        let left = end.saturating_sub(now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)) {
            Err(Errno::INTR) => {}
            ready => return ready.expect("a process is waited for") > 0,
        }
    }
}
