//! The replicated state machine: sessions, elections, keys. Pure.
