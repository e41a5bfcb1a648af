//! Memory that was freed, given back to the system.
//!
//! The C library keeps what a busy minute left in pieces, several times what is in use, until it is told to look for whole pages in it. systemd asks for the
//! same under memory pressure ([Memory Pressure Handling](https://systemd.io/MEMORY_PRESSURE/)).

/// Gives freed memory back. It takes some milliseconds, in which others may wait for memory: not for the reactor, and not for a busy moment.
///
/// Source: malloc_trim(3). Where the C library is another one nothing happens.
#[allow(unsafe_code)]
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and returns none, may be called by several threads at once (MT-Safe in its manual), and changes only what is free.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
