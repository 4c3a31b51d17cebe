use super::*;

const MS: Duration = Duration::from_millis(1);

/// A burst that is judged at times of its own.
struct Judge {
    burst: Burst,
    now: Instant,
    files: usize,
    /// How many were deleted before.
    deleted: usize,
}

/// A path for each number.
fn path(n: usize) -> FilePath {
    n.to_string().parse().unwrap()
}

impl Judge {
    fn of(files: usize) -> Self {
        Self {
            burst: Burst::default(),
            now: Instant::now(),
            files,
            deleted: 0,
        }
    }

    fn tally(&self, waiting: usize) -> Tally {
        Tally {
            waiting,
            lost: waiting,
            files: self.files,
            ..Tally::default()
        }
    }

    fn at(&mut self, after: Duration, tally: Tally) -> Verdict {
        self.now += after;
        let verdict = self.burst.judge(tally, self.now);
        if verdict == Verdict::Pass {
            self.files -= tally.waiting;
            let lost = self.deleted..self.deleted + tally.lost;
            self.deleted = lost.end;
            self.burst.passed.add(lost.map(path), self.now);
        }
        verdict
    }

    /// So many wait, and everything was looked at.
    fn sees(&mut self, after: Duration, waiting: usize) -> Verdict {
        self.at(after, self.tally(waiting))
    }
}

#[test]
fn few_deletions_pass_at_once_however_small_the_workspace() {
    for (files, waiting) in [(1, 1), (9, 9), (10, 9), (1000, 9)] {
        let verdict = Judge::of(files).sees(MS, waiting);
        assert_eq!(verdict, Verdict::Pass, "{waiting} of {files}");
    }
}

#[test]
fn many_wait_until_no_more_come_and_are_held_if_they_are_most() {
    for (files, verdict) in [
        (20, Verdict::Hold),
        (39, Verdict::Hold),
        (40, Verdict::Pass),
        (1000, Verdict::Pass),
    ] {
        let mut judge = Judge::of(files);
        assert_eq!(judge.sees(MS, 10), Verdict::Wait);
        assert_eq!(judge.sees(QUIET - MS, 20), Verdict::Wait);
        assert_eq!(judge.sees(QUIET - MS, 20), Verdict::Wait);
        assert_eq!(judge.sees(MS, 20), verdict, "{files}");
    }
}

#[test]
fn the_first_of_many_do_not_slip_through_while_the_rest_is_looked_at() {
    // A session begins, and most files went while nobody watched.
    let mut judge = Judge::of(100);
    let early = Tally {
        unseen: 90,
        stirring: true,
        ..judge.tally(1)
    };
    assert_eq!(judge.at(MS, early), Verdict::Wait);
    // However long that takes.
    assert_eq!(judge.at(PATIENCE * 2, early), Verdict::Wait);
    assert_eq!(judge.sees(MS, 91), Verdict::Hold);
    // Or `rm` has begun, and a few files more have changed: as soon as they are known not to be
    // gone the first one goes.
    let mut judge = Judge::of(1000);
    let early = |judge: &Judge, unseen| Tally {
        unseen,
        stirring: true,
        ..judge.tally(1)
    };
    let tally = early(&judge, 20);
    assert_eq!(judge.at(MS, tally), Verdict::Wait);
    let tally = early(&judge, 8);
    assert_eq!(judge.at(MS, tally), Verdict::Pass);
}

#[test]
fn what_never_rests_is_judged_all_the_same() {
    let stirring = |judge: &Judge, waiting| Tally {
        stirring: true,
        ..judge.tally(waiting)
    };
    for (waiting, verdict) in [(40, Verdict::Pass), (80, Verdict::Hold)] {
        // Something else changes all the time.
        let mut judge = Judge::of(100);
        let tally = stirring(&judge, waiting);
        assert_eq!(judge.at(MS, tally), Verdict::Wait);
        assert_eq!(judge.at(LONG_QUIET - MS, tally), Verdict::Wait);
        assert_eq!(judge.at(MS, tally), verdict);
        // More deletions come all the time.
        let mut judge = Judge::of(100);
        for more in 0..20 {
            let waits = judge.sees(PATIENCE / 20, waiting + more % 2);
            assert_eq!(waits, Verdict::Wait, "{waiting} and {more}");
        }
        assert_eq!(judge.sees(PATIENCE / 20, waiting), verdict);
    }
}

#[test]
fn deletions_one_after_the_other_count_together_for_a_while() {
    let mut judge = Judge::of(20);
    for _ in 0..9 {
        assert_eq!(judge.sees(100 * MS, 1), Verdict::Pass);
    }
    // The tenth is not half of twenty; the eleventh is more.
    assert_eq!(judge.sees(100 * MS, 1), Verdict::Wait);
    assert_eq!(judge.sees(QUIET, 1), Verdict::Pass);
    assert_eq!(judge.sees(100 * MS, 1), Verdict::Wait);
    assert_eq!(judge.sees(QUIET, 1), Verdict::Hold);
    // Slowly, as people do it, any number may go.
    let mut judge = Judge::of(20);
    for _ in 0..20 {
        assert_eq!(judge.sees(Duration::from_secs(1), 1), Verdict::Pass);
    }
}

#[test]
fn files_that_come_back_end_it_and_a_rest_passes_only_after_a_while() {
    let mut judge = Judge::of(30);
    judge.sees(MS, 30);
    assert_eq!(judge.sees(QUIET, 30), Verdict::Hold);
    assert_eq!(judge.sees(MS, 0), Verdict::Nothing);
    assert!(!judge.burst.held && judge.burst.due.is_none());

    judge.sees(MS, 30);
    assert_eq!(judge.sees(QUIET, 30), Verdict::Hold);
    assert_eq!(judge.sees(MS, 12), Verdict::Hold);
    assert_eq!(judge.sees(RECENT - MS, 12), Verdict::Hold);
    assert!(judge.burst.due.is_some_and(|due| due <= judge.now + PACE));
    assert_eq!(judge.sees(MS, 12), Verdict::Pass);
}

#[test]
fn once_some_are_held_more_are_held_at_once() {
    let mut judge = Judge::of(30);
    judge.sees(MS, 20);
    assert_eq!(judge.sees(QUIET, 20), Verdict::Hold);
    assert_eq!(judge.sees(MS, 21), Verdict::Hold);
}

#[test]
fn those_that_are_let_pass_do_not_make_the_others_few() {
    let mut judge = Judge::of(30);
    judge.sees(MS, 20);
    assert_eq!(judge.sees(QUIET, 20), Verdict::Hold);
    judge.burst.let_pass += 12;
    judge.files -= 12;
    for _ in 0..3 {
        assert_eq!(judge.sees(RECENT, 8), Verdict::Hold);
    }
    assert_eq!(judge.sees(MS, 0), Verdict::Nothing);
    assert_eq!(judge.sees(MS, 8), Verdict::Pass, "it is over");
}

#[test]
fn files_that_are_made_meanwhile_do_not_make_up_for_those_that_are_lost() {
    let mut judge = Judge::of(30);
    assert_eq!(judge.sees(MS, 20), Verdict::Wait);
    judge.files += 100;
    assert_eq!(judge.sees(QUIET, 20), Verdict::Hold);
    judge.files += 100;
    assert_eq!(judge.sees(RECENT * 2, 20), Verdict::Hold);
}

#[test]
fn what_is_only_elsewhere_now_is_not_lost() {
    let mut judge = Judge::of(30);
    judge.sees(MS, 30);
    let moved = Tally {
        lost: 5,
        ..judge.tally(30)
    };
    assert_eq!(judge.at(QUIET, moved), Verdict::Pass);
    // Neither does it count with the next.
    judge.files = 5;
    assert_eq!(judge.sees(MS, 2), Verdict::Pass);
}

#[test]
fn what_is_back_does_not_count_with_what_goes_again() {
    for (back, verdict) in [(true, Verdict::Pass), (false, Verdict::Hold)] {
        let mut guard = Guard::default();
        guard.passed(Side::Workspace, (0..12).map(path), Instant::now());
        if back {
            (0..12).for_each(|n| guard.is_back(&path(n)));
        }
        let mut judge = Judge {
            burst: guard.workspace,
            ..Judge::of(30)
        };
        judge.sees(MS, 12);
        assert_eq!(judge.sees(QUIET, 12), verdict, "{back}");
    }
}
