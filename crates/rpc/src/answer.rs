//! What a handler returns: an answer now, or one that a later step will give. Keeps true: an answer is given once; one that is
//! dropped instead tells the caller so.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{AppError, AppFault, RpcError};

/// The answer of a handler. Made by [`Answer::ready`], [`Answer::refuse`], from a `Result`, or by
/// [`crate::Context::then`] when it takes an await.
#[must_use = "the caller waits for it"]
pub struct Answer<R>(pub(crate) Form<R>);

pub(crate) enum Form<R> {
    Ready(Result<R, AppError>),
    Later(Arc<Slot<R>>),
}

impl<R> Answer<R> {
    /// The answer is known.
    pub fn ready(reply: R) -> Answer<R> {
        Answer(Form::Ready(Ok(reply)))
    }

    /// The endpoint says no.
    pub fn refuse(error: AppError) -> Answer<R> {
        Answer(Form::Ready(Err(error)))
    }

    /// The endpoint says no, with an error type of the application's own.
    pub fn fault(fault: impl AppFault) -> Answer<R> {
        Answer::refuse(fault.to_app())
    }
}

impl<R> From<Result<R, AppError>> for Answer<R> {
    fn from(result: Result<R, AppError>) -> Answer<R> {
        Answer(Form::Ready(result))
    }
}

impl<R: Send + 'static> Answer<R> {
    /// Hands the answer to `sink` when it is there.
    pub(crate) fn deliver(self, sink: impl FnOnce(Result<R, RpcError>) + Send + 'static) {
        match self.0 {
            Form::Ready(result) => sink(result.map_err(RpcError::App)),
            Form::Later(slot) => slot.attach(Box::new(sink)),
        }
    }
}

type Sink<R> = Box<dyn FnOnce(Result<R, RpcError>) + Send>;

/// The meeting place of a later answer and whoever waits for it; they come in either order.
pub(crate) struct Slot<R>(Mutex<State<R>>);

enum State<R> {
    Empty,
    Answered(Result<R, RpcError>),
    Awaited(Sink<R>),
    Over,
}

impl<R: Send + 'static> Slot<R> {
    pub(crate) fn new() -> Arc<Slot<R>> {
        Arc::new(Slot(Mutex::new(State::Empty)))
    }

    fn swap(&self, next: impl FnOnce(State<R>) -> (State<R>, Option<(Sink<R>, Result<R, RpcError>)>)) {
        let meet = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (after, meet) = next(std::mem::replace(&mut *state, State::Over));
            *state = after;
            meet
        };
        // Not under the lock: the sink runs foreign code.
        if let Some((sink, result)) = meet {
            sink(result);
        }
    }

    /// The first answer counts, later ones are dropped.
    pub(crate) fn complete(&self, result: Result<R, RpcError>) {
        self.swap(|state| match state {
            State::Empty => (State::Answered(result), None),
            State::Awaited(sink) => (State::Over, Some((sink, result))),
            other => (other, None),
        });
    }

    fn attach(&self, sink: Sink<R>) {
        self.swap(|state| match state {
            State::Empty => (State::Awaited(sink), None),
            State::Answered(result) => (State::Over, Some((sink, result))),
            other => (other, None),
        });
    }
}

/// A slot whose type is forgotten: something that can be told that there will be no answer.
pub(crate) trait Fail: Send + Sync {
    fn fail(&self, error: RpcError);
}

impl<R: Send + 'static> Fail for Slot<R> {
    fn fail(&self, error: RpcError) {
        self.complete(Err(error));
    }
}
