//! Barriers and reports: when all that was done before is equal on both sides, and what is not.
//!
//! A barrier passes in three steps. First its cookie is seen, so that every earlier change of the
//! disk was reported, and the server has answered, so that every earlier change of the project was
//! received. Then every path that was marked by then has come to rest. Then every update made by
//! then is acknowledged. What happens after a step does not hold it up.

use tokio::sync::oneshot;
use tokio::time::Instant;
use uspark_shared::path::FilePath;

use super::config::{Direction, Meant};
use super::guard::Side;
use super::jobs::DiskJob;
use super::report::{LinkState, Pending, Report, Skipped, Status};
use super::run::Engine;
use crate::watch::{Urgency, Watcher, watches_allowed};

/// Somebody who waits.
pub(super) struct Barrier {
    deadline: Instant,
    reply: oneshot::Sender<Report>,
    meant: Meant,
    step: Step,
}

enum Step {
    /// For its cookie and its comparison, unless they are there, and for the answer of this number.
    Sight {
        cookie: Option<Cookie>,
        comparison: Option<u64>,
        answer: u64,
    },
    /// For the paths up to this mark.
    Rest(u64),
    /// For the updates before this place in line; the paths were marked up to this mark.
    Acknowledged(u64, u64),
}

/// The name of a file whose event shows that every earlier change of the disk was reported.
pub(super) type Cookie = String;

/// What a report is about: everything, or what was there when a barrier got as far.
#[derive(Clone, Copy)]
struct Scope {
    mark: u64,
    seq: u64,
}

const EVERYTHING: Scope = Scope {
    mark: u64::MAX,
    seq: u64::MAX,
};

impl Barrier {
    /// When it ends at the latest.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether whoever waits wants the deletion of this path, gone from this side, to pass.
    pub fn frees(&self, side: Side, path: &FilePath) -> bool {
        side.passes(self.meant.mass_delete) && self.meant.covers(path)
    }

    /// Ends it.
    pub fn answer(self, report: Report) {
        // Whoever waited may have gone.
        let _ = self.reply.send(report);
    }

    fn scope(&self) -> Scope {
        match self.step {
            Step::Sight { .. } => EVERYTHING,
            Step::Rest(mark) => Scope { mark, ..EVERYTHING },
            Step::Acknowledged(seq, mark) => Scope { mark, seq },
        }
    }
}

impl Engine {
    pub(super) fn begin_barrier(
        &mut self,
        deadline: Instant,
        meant: Meant,
        reply: oneshot::Sender<Report>,
    ) {
        self.pass_meant(&meant);
        self.works.retry_failed(Instant::now());
        let comparison = self.compare_known();
        let cookie = self.put_cookie();
        let answer = self.ask_project();
        self.barriers.push(Barrier {
            deadline,
            reply,
            meant,
            step: Step::Sight {
                cookie,
                comparison,
                answer,
            },
        });
    }

    /// What a program writes to a file that it keeps open, or maps, or writes under another name of the file outside,
    /// the kernel tells of later or never: a barrier looks. One way everything was listed just now.
    ///
    /// Gives the number of the comparison.
    fn compare_known(&mut self) -> Option<u64> {
        if self.config.direction != Direction::Both || self.root_lost {
            return None;
        }
        self.comparisons += 1;
        // What is worked on is looked at anyway, and what is skipped when it changes.
        let is_at_rest =
            |path: &FilePath| self.works.get(path).is_none() && !self.skipped.contains_key(path);
        let known = self.agreed.iter().filter(|(path, _)| is_at_rest(path));
        let known = known.map(|(path, base)| (path.clone(), base.print));
        let (number, known) = (self.comparisons, known.collect());
        self.jobs.disk(DiskJob::Compare { number, known });
        Some(self.comparisons)
    }

    /// What differs from what is known is looked at, as if the kernel had told of it.
    pub(super) fn compared(&mut self, number: u64, differing: Vec<FilePath>) {
        for path in differing {
            self.mark(&path, Urgency::Now);
        }
        for barrier in &mut self.barriers {
            if let Step::Sight { comparison, .. } = &mut barrier.step {
                comparison.take_if(|awaited| *awaited <= number);
            }
        }
    }

    /// Asks the server for the project once more: its answer is behind all that it has sent.
    fn ask_project(&mut self) -> u64 {
        if self.following {
            let state_vector = self.project.state_vector();
            self.asked += 1;
            self.wire.ask(&None, &state_vector);
        }
        self.asked
    }

    /// The connection that was to answer is gone: barriers wait for the next one's first answer.
    pub(super) fn ask_again(&mut self) {
        let next = self.asked + 1;
        for barrier in &mut self.barriers {
            if let Step::Sight { answer, .. } = &mut barrier.step {
                *answer = next;
            }
        }
    }

    pub(super) fn barrier_cookie(&mut self, name: &str) {
        for barrier in &mut self.barriers {
            if let Step::Sight { cookie, .. } = &mut barrier.step {
                cookie.take_if(|cookie| cookie == name);
            }
        }
    }

    /// Moves barriers on, and answers those that have passed or come to their deadline.
    pub(super) fn check_barriers(&mut self) {
        let now = Instant::now();
        let mut at = 0;
        while at < self.barriers.len() {
            let step = match &self.barriers[at].step {
                Step::Sight {
                    cookie: None,
                    comparison: None,
                    answer,
                } if self.may_plan() && self.following && self.answered >= *answer => {
                    Some(Step::Rest(self.works.last_mark()))
                }
                Step::Rest(mark) if self.listed && !self.works.any_since(*mark) => {
                    Some(Step::Acknowledged(self.wire.next_seq(), *mark))
                }
                _ => None,
            };
            if let Some(step) = step {
                self.barriers[at].step = step;
                continue;
            }
            let passed = match &self.barriers[at].step {
                Step::Acknowledged(seq, _) => self.owed_before(*seq) == 0,
                _ => false,
            };
            // Nobody knows when it is back, if ever.
            let in_vain = self.over.is_some() || self.root_lost;
            if passed || self.barriers[at].deadline <= now || in_vain {
                let barrier = self.barriers.swap_remove(at);
                let report = self.report_of(barrier.scope());
                barrier.answer(report);
            } else {
                at += 1;
            }
        }
    }

    /// Answers those whose time is over; nothing else can be said while the journal is not written.
    pub(super) fn expire_barriers(&mut self, now: Instant) {
        let is_over = |barrier: &mut Barrier| barrier.deadline <= now;
        let over: Vec<Barrier> = self.barriers.extract_if(.., is_over).collect();
        for barrier in over {
            let report = self.report_of(barrier.scope());
            barrier.answer(report);
        }
    }

    /// How many updates before a place in line are not acknowledged. A pull sends none.
    fn owed_before(&self, seq: u64) -> usize {
        match self.config.direction {
            Direction::Pull => 0,
            _ => self.wire.unacknowledged().range(..seq).count(),
        }
    }

    /// What there is to say now.
    pub(super) fn report(&self) -> Report {
        self.report_of(EVERYTHING)
    }

    fn report_of(&self, scope: Scope) -> Report {
        let mut pending: Vec<Pending> = Vec::new();
        let mut general = |why: String| pending.push(Pending { path: None, why });
        if let Some(over) = &self.over {
            general(over.to_string());
        } else if let LinkState::Offline { why } = &self.link {
            general(format!("the server is away: {why}"));
        } else if !self.following {
            general("the server has not answered yet".into());
        }
        if self.root_lost {
            general("the workspace is gone".into());
        } else if !self.listed {
            general("the workspace is still being listed".into());
        }
        if let Some((why, _)) = &self.stuck {
            general(why.clone());
        }
        let owed = self.owed_before(scope.seq);
        if owed > 0 {
            general(format!(
                "{owed} changes are not acknowledged by the server yet"
            ));
        }
        let mut paths: Vec<Pending> = self
            .works
            .iter()
            .filter(|(path, work)| work.since <= scope.mark && !self.skipped.contains_key(*path))
            .map(|(path, work)| Pending {
                path: Some(path.clone()),
                why: match &work.trouble {
                    Some(trouble) => trouble.why.clone(),
                    None => "it is being synced".into(),
                },
            })
            .collect();
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        pending.extend(paths);
        let skipped = |(path, why): (String, &String)| Skipped {
            path,
            why: why.clone(),
        };
        let by_path = self
            .skipped
            .iter()
            .map(|(path, why)| (path.to_string(), why));
        let unseen = self.unseen.iter().map(|(path, why)| (path.clone(), why));
        let refused = self
            .project
            .refused
            .iter()
            .map(|(key, why)| (key.clone(), why));
        let held_here = self.held(Side::Project);
        Report {
            sent: self.sent,
            received: self.received_paths,
            conflicts: self.conflicts.clone(),
            skipped: by_path.chain(unseen).chain(refused).map(skipped).collect(),
            pending,
            held: held_here + self.held(Side::Workspace),
            held_here,
            not_pushed: self.not_pushed(),
            not_pulled: self.not_pulled(),
        }
    }

    pub(super) fn status(&self) -> Status {
        Status {
            report: self.report(),
            link: self.link.clone(),
            unacknowledged: self.wire.unacknowledged().len() as u64,
            last_acknowledged: self.last_acknowledged,
            watches: self.watches as u64,
            watches_allowed: watches_allowed(),
            events: self.watcher.as_ref().map_or(0, Watcher::events),
            files: self.agreed.len() as u64,
        }
    }
}
