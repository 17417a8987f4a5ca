//! Keys with their past in snapshots, and answers about keys as they are remembered.

use std::sync::Arc;

use palisade_coord_core::keys::Version;
use palisade_coord_core::keys::op::Findings;
use palisade_coord_core::restore::KeyParts;
use palisade_coord_core::{KeyReply, KeyValue, Revision, SessionId};

use crate::WireError;
use crate::coord::v1::key_answer::{self, Answer};
use crate::coord::v1::{self, KeyAnswer, key_space};

/// What stands once in the record.
pub(super) fn from_space(record: &v1::KeySpace) -> KeyParts {
    KeyParts {
        compacted: Revision(record.compacted_revision),
        watchable: Revision(record.watchable_revision),
        first_change: record.first_change.map(|it| (Revision(it.revision), it.place)),
        versions: Vec::new(),
    }
}

pub(super) fn to_version(version: &Version) -> key_space::Version {
    let content = version.kv.as_ref().map(|kv| key_space::Content {
        value: kv.value.clone(),
        create_revision: kv.create_revision.get(),
        version: kv.version,
        session: kv.session.map_or(0, SessionId::get),
    });
    key_space::Version { revision: version.revision.get(), place: version.place, content }
}

pub(super) fn from_version(record: key_space::Version) -> Version {
    let revision = Revision(record.revision);
    let kv = record.content.map(|it| KeyValue {
        value: it.value,
        create_revision: Revision(it.create_revision),
        mod_revision: revision,
        version: it.version,
        session: (it.session != 0).then_some(SessionId(it.session)),
    });
    Version { revision, place: record.place, kv: kv.map(Arc::new) }
}

pub(super) fn to_answer(reply: &KeyReply) -> KeyAnswer {
    let answer = match reply {
        KeyReply::Put { version, .. } => Answer::PutVersion(*version),
        KeyReply::Deleted { deleted, .. } => Answer::Deleted(*deleted),
        KeyReply::Read(findings) => Answer::Read(key_answer::Count { count: findings.count, more: findings.more }),
        KeyReply::Txn { succeeded, replies } => {
            let answers = replies.iter().map(to_answer).collect();
            Answer::Txn(key_answer::Txn { succeeded: *succeeded, answers })
        }
        KeyReply::NotKept => Answer::NotKept(key_answer::NotKept {}),
    };
    KeyAnswer { answer: Some(answer) }
}

pub(super) fn from_answer(record: KeyAnswer) -> Result<KeyReply, WireError> {
    Ok(match record.answer.ok_or_else(|| WireError::missing("answer.keys"))? {
        Answer::PutVersion(version) => KeyReply::Put { version, previous: None },
        Answer::Deleted(deleted) => KeyReply::Deleted { deleted, previous: Vec::new() },
        Answer::Read(key_answer::Count { count, more }) => KeyReply::Read(Findings { found: Vec::new(), count, more }),
        Answer::Txn(key_answer::Txn { succeeded, answers }) => {
            KeyReply::Txn { succeeded, replies: answers.into_iter().map(from_answer).collect::<Result<_, _>>()? }
        }
        Answer::NotKept(_) => KeyReply::NotKept,
    })
}
