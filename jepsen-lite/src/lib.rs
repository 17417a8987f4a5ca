//! Black-box chaos harness: real processes, checked histories. Knows only the wire.
