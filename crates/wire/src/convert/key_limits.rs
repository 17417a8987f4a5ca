//! What one node allows of a write of keys, where that is less than what the formats allow.

use palisade_coord_core::keys::op::Txn;
use palisade_coord_core::{Command, KeyOp, Op};

use super::check::invalid;
use crate::coord::v1::ErrorDetail;
use crate::limits::{KEY_BYTES, KV_VALUE_BYTES, REQUEST_BYTES, TXN_OPS};

/// Limits on writes of keys that a node may be configured with. The defaults are the highest: every replica decodes what passes them,
/// and the answer to one read has room for the largest key with the largest value. They are checked by the node that proposes a
/// write, before the log, so nodes that differ apply alike; what is there already stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyLimits {
    /// Of a key, in bytes: 1 to 4 KiB.
    pub key_bytes: usize,
    /// Of a value, in bytes: 0 to 1 MiB.
    pub value_bytes: usize,
    /// Conditions of a transaction, and its operations, those of transactions within included: 1 to 128.
    pub txn_ops: usize,
    /// Of a whole encoded request, in bytes: 1 KiB to 1.5 MiB.
    pub request_bytes: usize,
}

impl Default for KeyLimits {
    fn default() -> KeyLimits {
        KeyLimits { key_bytes: KEY_BYTES, value_bytes: KV_VALUE_BYTES, txn_ops: TXN_OPS, request_bytes: REQUEST_BYTES }
    }
}

impl KeyLimits {
    /// Whether a request of this encoded size, which is this command, may be proposed.
    ///
    /// # Errors
    /// It names the field, what it has, and the limit.
    pub fn check(&self, command: &Command, request_bytes: usize) -> Result<(), ErrorDetail> {
        if *self == KeyLimits::default() {
            return Ok(()); // it was converted
        }
        at_most("request", request_bytes, self.request_bytes, "bytes encoded")?;
        match &command.op {
            Op::Keys(KeyOp::Put(put)) => {
                at_most("key", put.key.len(), self.key_bytes, "bytes")?;
                at_most("value", put.value.as_ref().map_or(0, Vec::len), self.value_bytes, "bytes")
            }
            Op::Keys(op @ KeyOp::Txn(txn)) => {
                let (conditions, operations) = count(txn);
                at_most("txn.compare", conditions, self.txn_ops, "in all")?;
                at_most("txn.success, txn.failure", operations, self.txn_ops, "in all")?;
                self.operation(op)
            }
            _ => Ok(()),
        }
    }

    fn operation(&self, op: &KeyOp) -> Result<(), ErrorDetail> {
        match op {
            KeyOp::Put(put) => {
                at_most("put.key", put.key.len(), self.key_bytes, "bytes")?;
                at_most("put.value", put.value.as_ref().map_or(0, Vec::len), self.value_bytes, "bytes")
            }
            KeyOp::Txn(txn) => txn.success.iter().chain(&txn.failure).try_for_each(|op| self.operation(op)),
            KeyOp::Delete(_) | KeyOp::Read(_) => Ok(()),
        }
    }
}

fn at_most(field: &str, has: usize, most: usize, unit: &str) -> Result<(), ErrorDetail> {
    if has <= most { Ok(()) } else { Err(invalid(field, format!("{has} {unit}"), format!("at most {most} {unit}"))) }
}

/// Conditions and operations, those of transactions within included.
fn count(txn: &Txn) -> (usize, usize) {
    let mut all = (txn.compare.len(), txn.success.len() + txn.failure.len());
    for op in txn.success.iter().chain(&txn.failure) {
        if let KeyOp::Txn(within) = op {
            let (conditions, operations) = count(within);
            all = (all.0 + conditions, all.1 + operations);
        }
    }
    all
}
