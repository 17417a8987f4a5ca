//! Session deadlines: who is alive, what to expire. Pure.
