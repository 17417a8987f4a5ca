//! What came of a write of keys, as it is answered: one place for single requests and data streams. It decides nothing.

use palisade_coord_core::KeyReply;
use palisade_wire::convert;
use palisade_wire::coord::v1::{DeleteReply, Header, PutReply};

/// `key` is the request's; it is used only if what was there before was asked for. `None`: the reply is another command's.
pub(crate) fn put_reply(header: Header, key: &[u8], reply: KeyReply) -> Option<PutReply> {
    let header = Some(header);
    match reply {
        KeyReply::Put { version, previous } => {
            let previous = previous.map(|kv| convert::key_value(key, &kv));
            Some(PutReply { header, version, previous, not_kept: false })
        }
        KeyReply::NotKept => Some(PutReply { header, not_kept: true, ..PutReply::default() }),
        KeyReply::Deleted { .. } | KeyReply::Read(_) | KeyReply::Txn { .. } => None,
    }
}

/// `None`: the reply is another command's.
pub(crate) fn delete_reply(header: Header, reply: KeyReply) -> Option<DeleteReply> {
    let header = Some(header);
    match reply {
        KeyReply::Deleted { deleted, previous } => {
            let previous = previous.iter().map(convert::found).collect();
            Some(DeleteReply { header, deleted, previous, not_kept: false })
        }
        KeyReply::NotKept => Some(DeleteReply { header, not_kept: true, ..DeleteReply::default() }),
        KeyReply::Put { .. } | KeyReply::Read(_) | KeyReply::Txn { .. } => None,
    }
}
