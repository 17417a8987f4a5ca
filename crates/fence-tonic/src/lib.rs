//! Fencing for any tonic service.
