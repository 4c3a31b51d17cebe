//! Where the lines of two texts differ, at a bounded cost.
//!
//! The histogram takes a nanosecond for each pair of equal lines when all are frequent ones: minutes for a megabyte of
//! `0` and `1`. Such a text is compared by a walk that gives up after some steps.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput, Token};

/// How often a line may be in a text before the histogram no longer goes by it: the library's number.
const FREQUENT: u32 = 63;
/// Most pairs of frequent lines that are left to the histogram: a quarter of a second.
const MAX_PAIRS: u64 = 1 << 28;
/// Most lines that may go and come in a text of frequent lines; with more it is another text.
const MAX_STEPS: usize = 256;

/// Runs of lines that differ, in lines of the old and of the new text; one of a pair may be empty.
pub(super) type Hunks = Vec<(Range<u32>, Range<u32>)>;

/// Where the lines differ.
pub(super) fn differing(old: &str, new: &str) -> Hunks {
    let input = InternedInput::new(old, new);
    if frequent_pairs(&input) > MAX_PAIRS {
        let (old, new) = (&input.before, &input.after);
        let whole = || vec![(0..old.len() as u32, 0..new.len() as u32)];
        return few_steps(old, new).unwrap_or_else(whole);
    }
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let hunks = diff.hunks();
    hunks.map(|hunk| (hunk.before, hunk.after)).collect()
}

/// Pairs of lines, one of each text, that are frequent in the old one.
fn frequent_pairs(input: &InternedInput<&str>) -> u64 {
    let mut counts = vec![0_u32; input.interner.num_tokens() as usize];
    for line in &input.before {
        counts[line.0 as usize] += 1;
    }
    let is_frequent = |line: &&Token| counts[line.0 as usize] > FREQUENT;
    let count = |lines: &[Token]| lines.iter().filter(is_frequent).count() as u64;
    count(&input.before) * count(&input.after)
}

/// The greedy walk of Myers, "An O(ND) Difference Algorithm and Its Variations" (1986), from no lines to all lines of
/// both texts: a step leaves out an old line or takes in a new one, and equal lines are free. `None` when it needs more
/// than [`MAX_STEPS`].
fn few_steps(old: &[Token], new: &[Token]) -> Option<Hunks> {
    let goal = (old.len(), new.len());
    // For each diagonal how many old lines are behind the walk that is furthest there, after so many steps.
    let mut walks = vec![Furthest::new()];
    while walks.len() <= MAX_STEPS + 1 {
        let step = walks.len() - 1;
        let mut now = walks[step].clone();
        for diagonal in (-(step as isize)..=step as isize).step_by(2) {
            let (mut x, mut y) = match walks[step].before(step, diagonal) {
                Some((from, is_new)) => after(from, is_new),
                None => (0, 0),
            };
            while x < goal.0 && y < goal.1 && old[x] == new[y] {
                (x, y) = (x + 1, y + 1);
            }
            if (x, y) == goal {
                return Some(hunks_of(&walks, goal));
            }
            now.set(diagonal, x);
        }
        walks.push(now);
    }
    None
}

/// Where a step from here leads: a new line is taken in, or an old one left out.
fn after((x, y): (usize, usize), is_new: bool) -> (usize, usize) {
    if is_new { (x, y + 1) } else { (x + 1, y) }
}

/// The steps of the walk that has arrived, put together where they touch.
fn hunks_of(walks: &[Furthest], goal: (usize, usize)) -> Hunks {
    let mut hunks = Hunks::new();
    let (mut x, mut y) = goal;
    for (step, walk) in walks.iter().enumerate().rev() {
        let diagonal = x as isize - y as isize;
        let Some((from, is_new)) = walk.before(step, diagonal) else {
            break;
        };
        let to = after(from, is_new);
        let (before, after) = (from.0 as u32..to.0 as u32, from.1 as u32..to.1 as u32);
        match hunks.last_mut() {
            Some(last) if (last.0.start, last.1.start) == (before.end, after.end) => {
                (last.0.start, last.1.start) = (before.start, after.start);
            }
            _ => hunks.push((before, after)),
        }
        (x, y) = from;
    }
    hunks.reverse();
    hunks
}

/// How many old lines are behind the furthest walk on each diagonal: old lines less new ones.
#[derive(Clone)]
struct Furthest(Vec<usize>);

impl Furthest {
    /// Diagonals on either side, with one beyond the last step.
    const SIDE: isize = MAX_STEPS as isize + 1;

    fn new() -> Self {
        Self(vec![0; 2 * Self::SIDE as usize + 1])
    }

    fn get(&self, diagonal: isize) -> usize {
        self.0[(diagonal + Self::SIDE) as usize]
    }

    fn set(&mut self, diagonal: isize, x: usize) {
        self.0[(diagonal + Self::SIDE) as usize] = x;
    }

    /// Where the best walk to a diagonal was before its step of this number, and whether that takes a new line in;
    /// `None` before the first.
    fn before(&self, step: usize, diagonal: isize) -> Option<((usize, usize), bool)> {
        let last = step as isize;
        let (left, right) = (diagonal - 1, diagonal + 1);
        let is_new = diagonal == -last || (diagonal != last && self.get(left) < self.get(right));
        let from = if is_new { right } else { left };
        let x = self.get(from);
        (step > 0).then_some(((x, (x as isize - from) as usize), is_new))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_walk_keeps_equal_lines_and_no_other(
            old in prop::collection::vec(0_u32..3, 0..40),
            new in prop::collection::vec(0_u32..3, 0..40),
        ) {
            let tokens = |lines: &[u32]| lines.iter().map(|line| Token(*line)).collect::<Vec<_>>();
            let hunks = few_steps(&tokens(&old), &tokens(&new)).expect("80 lines are few");
            let mut made = Vec::new();
            let mut at = 0;
            for (before, after) in &hunks {
                made.extend_from_slice(&old[at..before.start as usize]);
                made.extend_from_slice(&new[after.start as usize..after.end as usize]);
                at = before.end as usize;
            }
            made.extend_from_slice(&old[at..]);
            prop_assert_eq!(&made, &new);
            // It is a shortest one.
            let steps: usize = hunks.iter().map(|(before, after)| before.len() + after.len()).sum();
            prop_assert_eq!(steps, shortest(&old, &new));
        }
    }

    /// Lines that go and come at least, by trying everything.
    fn shortest(old: &[u32], new: &[u32]) -> usize {
        let mut row: Vec<usize> = (0..=new.len()).collect();
        for (x, line) in old.iter().enumerate() {
            let mut next = vec![x + 1];
            for (y, other) in new.iter().enumerate() {
                next.push(match line == other {
                    true => row[y],
                    false => 1 + row[y + 1].min(next[y]),
                });
            }
            row = next;
        }
        row[new.len()]
    }

    #[test]
    fn the_walk_gives_up_after_so_many_steps() {
        let lines = |count: usize| vec![Token(0); count];
        assert_eq!(
            few_steps(&lines(0), &lines(MAX_STEPS)).map(|hunks| hunks.len()),
            Some(1)
        );
        assert_eq!(
            few_steps(&lines(MAX_STEPS), &lines(0)).map(|hunks| hunks.len()),
            Some(1)
        );
        assert_eq!(few_steps(&lines(0), &lines(MAX_STEPS + 1)), None);
    }
}
