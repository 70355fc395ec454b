//! How the process ends, as its supervisor sees it.

/// The exit codes of `sillok serve`, after `sysexits.h`. A supervisor may restart after [`Internal`](ExitCode::Internal) and
/// [`DiskIo`](ExitCode::DiskIo); the others come back until somebody acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Asked to stop, and stopped: streams ended, leadership handed over, everything on disk.
    Graceful = 0,
    /// The configuration is wrong, or an address in it cannot be listened on.
    BadConfig = 64,
    /// The chronicle is damaged (not torn) and could not be repaired from peers: segment, offset, the last good position and what
    /// was tried are in the log. Replace the node.
    Damaged = 65,
    /// The data directory belongs to another node, site or cluster, or to an epoch that the cluster has left behind.
    WrongData = 66,
    /// Something that must not happen did; what was acknowledged is safe.
    Internal = 70,
    /// The disk failed an operation. A failed sync is never tried again by the same process.
    DiskIo = 74,
}

impl ExitCode {
    /// Starting again ends the same way, until somebody has mended or moved what lies on the disk.
    pub(crate) fn is_for_good(self) -> bool {
        matches!(self, ExitCode::Damaged | ExitCode::WrongData)
    }

    /// As the operating system wants it.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(code.code())
    }
}
