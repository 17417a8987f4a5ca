//! `palisade elect run`: a command runs only while it leads.
//!
//! This process keeps the session and campaigns; a [`super::guardian`] holds the deadline and the command's process group.
//! What it keeps true: the leadership is resigned only after the whole group is gone.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use palisade_client::{Client, Leadership, LeadershipState, Value};
use palisade_world::World;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::campaign::Stop;
use super::guardian::OWN_FAILURE;
use super::lead::{Attempt, Led, lead};
use crate::cli::RunArgs;
use crate::exit::Failure;

/// How often a group that is being killed is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How a term of the command ended.
enum Term {
    /// The command ended by itself.
    Exited(u8),
    /// The leadership ended; the group is gone.
    Lost,
    /// Somebody else is to lead; the group is gone.
    Asked,
    /// We were told to stop; the group is gone.
    Stopped { interrupted: bool },
}

pub(crate) async fn run(args: RunArgs, client: Client, world: World) -> Result<(), Failure> {
    let own = |failure: Failure| failure.with_code(OWN_FAILURE);
    let mut stop = Stop::new().map_err(Failure::from).map_err(own)?;
    // What a dead guardian leaves behind comes to us.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    let mut attempt = Attempt::First;
    loop {
        let led = lead(&args.election, &args.session, Value::default(), attempt, &client, &world, &mut stop).await;
        let (session, leadership) = match led.map_err(own)? {
            Led::Leading(session, leadership) => (session, leadership),
            Led::Stopped { interrupted } => return stopped(interrupted),
        };
        attempt = Attempt::Later;
        eprintln!("palisade: leading as {}", leadership.fence());
        let term = serve(&args, &leadership, &world, &mut stop).await.map_err(own);
        // Only now: the group is gone, so nobody acts as leader any more.
        let handed_over = match leadership.resign().await {
            Ok(()) => session.close().await,
            Err(error) => Err(error),
        };
        if let Err(error) = handed_over {
            eprintln!("palisade: resigning: {error} (the session ends at its TTL)");
        }
        match term? {
            Term::Stopped { interrupted } => return stopped(interrupted),
            Term::Exited(0) if !args.restart => return Ok(()),
            Term::Exited(code) if !args.restart => return Err(Failure::silent(code)),
            Term::Exited(code) => eprintln!("palisade: the command ended with {code}; campaigning again"),
            Term::Asked if !args.restart => return Ok(()),
            Term::Asked => eprintln!("palisade: the leadership was handed over on request; campaigning again"),
            Term::Lost if !args.restart => {
                return Err(Failure::failed("the leadership was lost; the command was ended").with_code(OWN_FAILURE));
            }
            Term::Lost => eprintln!("palisade: the leadership was lost; campaigning again"),
        }
    }
}

/// Runs the command for one term. Returns only when its whole process group is gone.
async fn serve(args: &RunArgs, leadership: &Leadership, world: &World, stop: &mut Stop) -> Result<Term, Failure> {
    let mut guardian = Guardian::start(args, leadership)?;
    let mut state = leadership.state();
    let mut term = Term::Exited(0);
    let mut ending = false;
    let mut last_deadline = leadership.deadline();
    let mut killed = false;
    loop {
        match state.borrow_and_update().clone() {
            LeadershipState::Held { deadline } | LeadershipState::Suspect { deadline } => {
                last_deadline = deadline;
                guardian.tell(&format!("deadline {}", nanos(deadline)))
            }
            LeadershipState::Lost { .. } if !ending => {
                ending = true;
                term = Term::Lost;
                guardian.tell("end");
            }
            LeadershipState::Lost { .. } => {}
        }
        tokio::select! {
            code = guardian.ended() => return Ok(match (term, code?) {
                // The guardian ends a command at its deadline even if we have not heard of the loss yet.
                (Term::Exited(_), _) if world.now() >= leadership.deadline() => Term::Lost,
                (Term::Exited(_), code) => Term::Exited(code),
                (told, _) => told,
            }),
            interrupted = stop.asked(), if !ending => {
                ending = true;
                term = Term::Stopped { interrupted };
                guardian.tell("end");
            }
            _ = leadership.end_requested(), if !ending => {
                ending = true;
                term = Term::Asked;
                eprintln!("palisade: the leadership is asked for; ending the command");
                guardian.tell("end");
            }
            // The guardian does the same; but it may be stopped.
            () = world.sleep_until(last_deadline), if !killed => {
                killed = true;
                guardian.kill_group();
            }
            changed = state.changed(), if !matches!(term, Term::Lost) => if changed.is_err() && !ending {
                ending = true;
                term = Term::Lost;
                guardian.tell("end");
            },
        }
    }
}

fn stopped(interrupted: bool) -> Result<(), Failure> {
    if interrupted { Err(Failure { message: String::new(), ..Failure::interrupted() }) } else { Ok(()) }
}

fn nanos(deadline: Duration) -> u64 {
    u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX)
}

/// The guardian process and the two pipes to it.
struct Guardian {
    child: Child,
    control: File,
    report: tokio::io::Lines<BufReader<pipe::Receiver>>,
    group: Option<i32>,
}

impl Guardian {
    fn start(args: &RunArgs, leadership: &Leadership) -> Result<Guardian, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("the guardian could not be started: {error}"));
        let (control_read, control_write) = pipe_pair().map_err(failed)?;
        let (report_read, report_write) = pipe_pair().map_err(failed)?;
        let grace = args.grace.unwrap_or(args.session.ttl / 4);
        let fence = leadership.fence();
        // Only the two ends that the guardian uses are inherited.
        for fd in [&control_read, &report_write] {
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
                .map_err(|e| failed(e.into()))?;
        }
        let child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg("elect-guardian")
            .args(["--control-fd", &control_read.as_raw_fd().to_string()])
            .args(["--report-fd", &report_write.as_raw_fd().to_string()])
            .args(["--deadline-ns", &nanos(leadership.deadline()).to_string()])
            .args(["--grace-ms", &crate::units::ms(grace).to_string()])
            .arg("--")
            .args(&args.command)
            .env("PALISADE_ELECTION", &fence.election)
            .env("PALISADE_TOKEN", fence.token.to_string())
            .env("PALISADE_FENCE", fence.to_string())
            .env("PALISADE_CANDIDATE", &leadership.grant().candidate)
            .env_remove("PALISADE_CONFIG")
            .stdin(Stdio::inherit())
            // Ctrl-C reaches the whole foreground group: the guardian must outlive it to end the command in order.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let report = pipe::Receiver::from_owned_fd(report_read).map_err(failed)?;
        Ok(Guardian { child, control: File::from(control_write), report: BufReader::new(report).lines(), group: None })
    }

    /// A guardian that is gone is noticed by [`Guardian::ended`], so a failed write needs no answer here.
    fn tell(&mut self, line: &str) {
        let _ = writeln!(self.control, "{line}");
    }

    /// The command's exit code, once its group is gone. If the guardian itself was killed, ends the group first.
    async fn ended(&mut self) -> Result<u8, Failure> {
        loop {
            tokio::select! {
                biased;
                line = self.report.next_line() => match line.ok().flatten().as_deref().and_then(|line| line.split_once(' ')) {
                    Some(("group", group)) => self.group = group.parse().ok(),
                    Some(("exit", code)) => return Ok(code.parse().unwrap_or(OWN_FAILURE)),
                    _ => {
                        let _ = self.child.wait().await;
                        return self.end_orphans().await;
                    }
                },
                _ = self.child.wait() => {
                    // Its last words may still be in the pipe; if there are none, it died without them.
                    while let Ok(Ok(Some(line))) = tokio::time::timeout(Duration::from_millis(50), self.report.next_line()).await {
                        match line.split_once(' ') {
                            Some(("group", group)) => self.group = group.parse().ok(),
                            Some(("exit", code)) => return Ok(code.parse().unwrap_or(OWN_FAILURE)),
                            _ => {}
                        }
                    }
                    return self.end_orphans().await;
                }
            }
        }
    }

    fn kill_group(&self) {
        if let Some(group) = self.group {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }

    /// The guardian is gone without having ended the group: ends it, and returns once it is gone. A guardian that died before
    /// it could name the group has left us its children, since orphans come to us.
    async fn end_orphans(&mut self) -> Result<u8, Failure> {
        for group in self.group.into_iter().chain(own_children()) {
            let group = Pid::from_raw(group);
            while killpg(group, Signal::SIGKILL).is_ok() {
                let _ = waitpid(Pid::from_raw(-group.as_raw()), Some(WaitPidFlag::WNOHANG));
                tokio::time::sleep(LOOK).await;
            }
        }
        Err(Failure::failed("the guardian process died; the command's process group was killed"))
    }
}

/// Ids of the processes whose parent this process is.
fn own_children() -> Vec<i32> {
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_ours = |pid: &i32| {
        // After the name in parentheses: the state, then the parent.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1).map(|parent| parent == own)).unwrap_or(false)
    };
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(of_ours).collect()
}

fn pipe_pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    // Both ends close on exec, so that no other child keeps them open.
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}
