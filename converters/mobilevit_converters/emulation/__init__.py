"""Another machine on this one: QEMU's user mode, Debian packages and wheels for it, without root."""
