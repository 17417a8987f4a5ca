//! The guardian of `elect run`: it starts the command in a process group of its own, holds the deadline, and ends the group
//! when the deadline passes, when it is told to, or when its parent is gone.
//!
//! It is a process of its own so that the command cannot outlive the leadership when `elect run` dies or is stopped: a
//! stopped parent sends no new deadline, a dead one closes the control pipe. It has no runtime and talks to nobody else.
//!
//! Control lines: `deadline NANOS` (boot-time clock), `end` (SIGTERM now, SIGKILL after the grace or at the deadline).
//! Report lines: `group PGID`, `exit CODE` once the whole group is gone.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use palisade_planted::{self as planted, Bug};
use palisade_world::{BootClock, Clock};

use crate::cli::GuardianArgs;

/// Exit code of `elect run` for failures of its own, as `env` and `timeout` have it.
pub(crate) const OWN_FAILURE: u8 = 125;

/// How often a group that was told to end is looked at, and an upper bound for noticing anything else.
const LOOK: Duration = Duration::from_millis(5);

enum News {
    Deadline(Duration),
    End,
    ParentGone,
    ChildEnded(ExitStatus),
}

/// What the guardian is doing with the group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// SIGTERM was sent; SIGKILL follows at this time or at the deadline, whichever is first.
    Ending {
        kill_at: Duration,
    },
    Killed,
}

pub(crate) fn run(args: &GuardianArgs) -> ExitCode {
    match guard(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("palisade: guardian: {error}");
            ExitCode::from(OWN_FAILURE)
        }
    }
}

fn guard(args: &GuardianArgs) -> std::io::Result<u8> {
    // Orphans of the command come to us, so that "the group is gone" can be seen also where nothing else reaps them.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    let control = File::open(format!("/proc/self/fd/{}", args.control_fd))?;
    let mut report = File::options().write(true).open(format!("/proc/self/fd/{}", args.report_fd))?;
    // Our copies close on exec; the inherited ones must not reach the command, which could speak for us through them.
    for fd in [args.control_fd, args.report_fd] {
        nix::unistd::close(i32::try_from(fd).unwrap_or(-1))?;
    }
    let (program, rest) = args.command.split_first().expect("clap requires a command");
    let child = match Command::new(program).args(rest).process_group(0).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("palisade: '{program}' could not be started: {error}");
            let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
            let _ = writeln!(report, "exit {code}");
            return Ok(code);
        }
    };
    let group = Pid::from_raw(i32::try_from(child.id()).expect("a process id fits in i32"));
    // A parent that is gone already is noticed by the control pipe, in order: never leave before that.
    let _ = writeln!(report, "group {group}");
    let (send, news) = mpsc::channel();
    watch_control(control, send.clone());
    watch_child(child, send);
    let status = hold(&news, group, Duration::from_nanos(args.deadline_ns), Duration::from_millis(args.grace_ms));
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(i32::from(OWN_FAILURE));
    let code = u8::try_from(code).unwrap_or(OWN_FAILURE);
    let _ = writeln!(report, "exit {code}");
    Ok(code)
}

/// Returns once the whole group is gone, with the status of the command itself.
fn hold(news: &mpsc::Receiver<News>, group: Pid, first_deadline: Duration, grace: Duration) -> ExitStatus {
    let mut deadline = first_deadline;
    let mut phase = Phase::Running;
    let mut ended = None;
    loop {
        let now = BootClock.now();
        let terminate_at = deadline.saturating_sub(grace);
        phase = match phase {
            Phase::Running
                if (now >= terminate_at && !planted::is(Bug::ChildOutlivesLeadership)) || ended.is_some() =>
            {
                signal(group, Signal::SIGTERM);
                Phase::Ending { kill_at: now + grace }
            }
            Phase::Ending { kill_at } if now >= kill_at.min(deadline) => {
                signal(group, Signal::SIGKILL);
                Phase::Killed
            }
            other => other,
        };
        if let Some(status) = ended
            && group_is_gone(group)
        {
            return status;
        }
        let wait = match phase {
            Phase::Running if planted::is(Bug::ChildOutlivesLeadership) => LOOK,
            Phase::Running => terminate_at.saturating_sub(now),
            Phase::Ending { .. } | Phase::Killed => LOOK,
        };
        match news.recv_timeout(wait) {
            Ok(News::Deadline(at)) => deadline = deadline.max(at),
            Ok(News::End) if phase == Phase::Running => {
                signal(group, Signal::SIGTERM);
                phase = Phase::Ending { kill_at: BootClock.now() + grace };
            }
            // Nobody renews any more: what is left of the deadline belongs to nobody, so do not wait for it.
            Ok(News::ParentGone) if phase != Phase::Killed && !planted::is(Bug::ChildOutlivesLeadership) => {
                signal(group, Signal::SIGKILL);
                phase = Phase::Killed;
            }
            Ok(News::ChildEnded(status)) => ended = Some(status),
            Ok(News::End | News::ParentGone) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
        }
    }
}

/// Sends a signal to the group; that it is gone already is what we want.
fn signal(group: Pid, signal: Signal) {
    let _ = killpg(group, signal);
}

fn group_is_gone(group: Pid) -> bool {
    // Reap orphans of the group that were handed to us; the command itself is reaped by its own thread before.
    let _ = nix::sys::wait::waitpid(Pid::from_raw(-group.as_raw()), Some(nix::sys::wait::WaitPidFlag::WNOHANG));
    matches!(killpg(group, None), Err(Errno::ESRCH))
}

fn watch_control(control: File, news: mpsc::Sender<News>) {
    std::thread::spawn(move || {
        for line in BufReader::new(control).lines() {
            let Ok(line) = line else { break };
            let message = match line.split_once(' ') {
                Some(("deadline", nanos)) => {
                    nanos.parse().ok().map(|nanos| News::Deadline(Duration::from_nanos(nanos)))
                }
                None if line == "end" => Some(News::End),
                _ => None,
            };
            if message.is_some_and(|message| news.send(message).is_err()) {
                return;
            }
        }
        let _ = news.send(News::ParentGone);
    });
}

fn watch_child(mut child: Child, news: mpsc::Sender<News>) {
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            let _ = news.send(News::ChildEnded(status));
        }
    });
}
