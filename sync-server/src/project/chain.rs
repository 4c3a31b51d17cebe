//! Who replaced what in `files`: for each key, the chain of its values.
//!
//! A Y.Map keeps one of several values set at the same time and drops the others without a trace.
//! Each value names, as its origin, the one its author saw; so a value that replaces one which its
//! author did not see shows, and the loser can still be read from the update that brought it.
//!
//! Invariant: every element of `files` is in `keys`, because an update may name any of them as an
//! origin. Where updates waited for others, the owner reads the state again with [`Chains::of_state`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use uspark_shared::schema::FILES;
use uspark_shared::update::{Block, BlockKind, Content, Id, Item, Parent, Scan};

use super::repair::Loser;

/// The values of every key of `files`, without the values.
#[derive(Debug, Default)]
pub struct Chains {
    /// From the first element of a run to its length and key.
    keys: BTreeMap<Id, (u32, Arc<str>)>,
    /// For each key that has a value, the element that holds it.
    tips: HashMap<Arc<str>, Tip>,
}

#[derive(Debug, Clone)]
struct Tip {
    id: Id,
    who: Arc<str>,
}

/// What an update brings for one key, before anyone knows which value stays.
#[derive(Debug)]
pub struct Contest {
    key: Arc<str>,
    /// What the update's authors set last.
    contenders: Vec<(Id, Value)>,
    /// Who set the value that stood there, if the update's authors did not see it.
    unseen: Option<Arc<str>>,
}

impl Contest {
    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl Chains {
    /// Reads the whole state of a project document.
    pub fn of_state(scan: &Scan<'_>) -> Self {
        let mut chains = Self::default();
        for contest in chains.receive(scan, |_| 0) {
            // In a state, all values of a key but one are deleted, and so are no contenders.
            if let Some((id, _)) = contest.contenders.last() {
                chains.set_tip(contest.key, *id, "somebody");
            }
        }
        chains
    }

    /// Takes in an update before it is applied, and says which keys it sets.
    ///
    /// `known` gives the clock up to which a client's elements are there already.
    pub fn receive(&mut self, scan: &Scan<'_>, known: impl Fn(u64) -> u32) -> Vec<Contest> {
        let mut fresh = Fresh::read(scan, known);
        fresh.resolve(&self.keys);
        let deleted: BTreeMap<Id, u32> = scan
            .deletes()
            .map(|range| {
                (
                    Id {
                        client: range.client,
                        clock: range.start,
                    },
                    range.len,
                )
            })
            .collect();
        let is_deleted = |id: Id| run_at(&deleted, id, |len| *len).is_some();
        let mut contests = HashMap::<Arc<str>, Contest>::new();
        for element in fresh.elements.values() {
            let Some(key) = element.key() else { continue };
            let contest = contests.entry(Arc::clone(key)).or_insert_with(|| Contest {
                key: Arc::clone(key),
                contenders: Vec::new(),
                unseen: self.tips.get(key).map(|tip| Arc::clone(&tip.who)),
            });
            let sees = |tip: &Tip| element.origin == Some(tip.id) || is_deleted(tip.id);
            let seen = self.tips.get(key).is_none_or(sees);
            if seen {
                contest.unseen = None;
            }
            if let Some(value) = &element.value
                && !is_deleted(element.last())
                && !fresh.replaces(element.last())
            {
                contest.contenders.push((element.last(), value.clone()));
            }
        }
        for element in fresh.elements.into_values() {
            if let Some(key) = element.key() {
                self.keys.insert(element.id, (element.len, Arc::clone(key)));
            }
        }
        contests
            .into_values()
            .filter(|contest| !contest.contenders.is_empty())
            .collect()
    }

    /// Closes a contest once the update is applied.
    ///
    /// `before` and `after` are the key's values before and after it, `who` made the update. Gives
    /// every value that its setter may think stands, and that does not.
    pub fn decide(
        &mut self,
        contest: Contest,
        before: Option<&Value>,
        after: Option<&Value>,
        who: &str,
    ) -> Vec<Loser> {
        let Contest {
            key,
            contenders,
            unseen,
        } = contest;
        let lost = |value: &Value, who: &str| Loser {
            key: key.to_string(),
            value: value.clone(),
            who: who.to_owned(),
        };
        let mut losers = Vec::new();
        let mut tip = None;
        for (id, value) in &contenders {
            if Some(value) == after {
                tip = Some(*id);
            } else {
                losers.push(lost(value, who));
            }
        }
        if let (Some(other), Some(value)) = (unseen, before)
            && Some(value) != after
        {
            losers.push(lost(value, &other));
        }
        if let Some(id) = tip {
            self.set_tip(key, id, who);
        }
        losers
    }

    fn set_tip(&mut self, key: Arc<str>, id: Id, who: &str) {
        self.tips.insert(
            key,
            Tip {
                id,
                who: who.into(),
            },
        );
    }
}

/// The elements of an update that are not known yet and may belong to `files`.
struct Fresh {
    elements: BTreeMap<Id, Element>,
    /// What the new elements name as their origin.
    origins: HashSet<Id>,
}

struct Element {
    id: Id,
    len: u32,
    origin: Option<Id>,
    place: Place,
    /// The last value of the run, unless it was deleted.
    value: Option<Value>,
}

#[derive(Clone)]
enum Place {
    Key(Arc<str>),
    /// That of its origin.
    Origin,
    Elsewhere,
}

impl Element {
    fn new(block: Block<'_>, item: Item<'_>) -> Self {
        let place = match (item.parent, item.key, item.origin) {
            (Some(Parent::Root(FILES)), Some(key), _) => Place::Key(key.into()),
            (None, None, Some(_)) => Place::Origin,
            _ => Place::Elsewhere,
        };
        let value = match item.content {
            Content::Any(values) => values.iter().last(),
            Content::Deleted => None,
            // Anything else is no entry; that it is there counts.
            _ => Some(Value::Null),
        };
        Self {
            id: block.id,
            len: block.len,
            origin: item.origin,
            place,
            value,
        }
    }

    fn key(&self) -> Option<&Arc<str>> {
        match &self.place {
            Place::Key(key) => Some(key),
            Place::Origin | Place::Elsewhere => None,
        }
    }

    fn last(&self) -> Id {
        Id {
            clock: self.id.clock + self.len - 1,
            ..self.id
        }
    }
}

impl Fresh {
    fn read(scan: &Scan<'_>, known: impl Fn(u64) -> u32) -> Self {
        let mut fresh = Self {
            elements: BTreeMap::new(),
            origins: HashSet::new(),
        };
        for block in scan
            .blocks()
            .filter(|block| block.end().clock > known(block.id.client))
        {
            if let BlockKind::Item(item) = block.kind {
                fresh.origins.extend(item.origin);
                fresh.elements.insert(block.id, Element::new(block, item));
            }
        }
        fresh
    }

    /// Whether some new element was set in full sight of this one.
    fn replaces(&self, id: Id) -> bool {
        self.origins.contains(&id)
    }

    /// Gives every element the key of its origin, each walked once.
    fn resolve(&mut self, known: &BTreeMap<Id, (u32, Arc<str>)>) {
        let ids: Vec<Id> = self.elements.keys().copied().collect();
        for start in ids {
            let mut path = Vec::new();
            let mut at = start;
            let place = loop {
                let element = &mut self
                    .elements
                    .get_mut(&at)
                    .expect("walks only along elements");
                if !matches!(element.place, Place::Origin) {
                    break element.place.clone();
                }
                // In doubt (and in a circle, which only a forger makes) it lies elsewhere.
                element.place = Place::Elsewhere;
                path.push(at);
                let Some(origin) = element.origin else {
                    break Place::Elsewhere;
                };
                if let Some((_, key)) = run_at(known, origin, |run| run.0) {
                    break Place::Key(Arc::clone(key));
                }
                match run_at(&self.elements, origin, |element| element.len) {
                    Some(element) => at = element.id,
                    None => break Place::Elsewhere,
                }
            };
            for id in path {
                if let Some(element) = self.elements.get_mut(&id) {
                    element.place = place.clone();
                }
            }
        }
    }
}

/// The run that holds an element.
fn run_at<T>(runs: &BTreeMap<Id, T>, id: Id, len: impl Fn(&T) -> u32) -> Option<&T> {
    let (start, run) = runs.range(..=id).next_back()?;
    let holds = start.client == id.client && id.clock - start.clock < len(run);
    holds.then_some(run)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uspark_shared::path::FilePath;
    use uspark_shared::replica::{ClientId, ProjectEdit, ProjectReplica};
    use uspark_shared::schema::Entry;
    use uspark_shared::update::scan;

    use super::*;

    fn replica(author: u8) -> ProjectReplica {
        ProjectReplica::new(ClientId::from_random([author; 4]))
    }

    fn link(target: &str) -> Entry {
        Entry::Link {
            target: target.into(),
        }
    }

    fn set(replica: &ProjectReplica, path: &str, target: &str) -> Vec<u8> {
        let path: FilePath = path.parse().unwrap();
        replica
            .edit(&[ProjectEdit::SetFile(path, link(target))])
            .unwrap()
    }

    /// A server that applies updates and collects who lost.
    struct Server {
        replica: ProjectReplica,
        chains: Chains,
    }

    impl Server {
        fn new() -> Self {
            Self {
                replica: replica(99),
                chains: Chains::default(),
            }
        }

        fn take(&mut self, update: &[u8], who: &str) -> Vec<Loser> {
            let scanned = scan(update).unwrap();
            let contests = self.chains.receive(&scanned, self.replica.clocks());
            let keys: Vec<_> = contests.iter().map(|c| c.key().to_owned()).collect();
            let before: Vec<_> = keys.iter().map(|key| self.replica.file(key)).collect();
            self.replica.apply(update).unwrap();
            let mut losers = Vec::new();
            for ((contest, before), key) in contests.into_iter().zip(before).zip(keys) {
                let after = self.replica.file(&key);
                losers.extend(
                    self.chains
                        .decide(contest, before.as_ref(), after.as_ref(), who),
                );
            }
            losers
        }
    }

    fn targets(losers: &[Loser]) -> Vec<(&str, &str)> {
        let of = |l: &Loser| {
            l.value["link"]
                .as_str()
                .map(|t| t.to_owned().leak() as &str)
                .unwrap()
        };
        losers.iter().map(|l| (of(l), l.who.as_str())).collect()
    }

    #[test]
    fn replacing_what_one_has_seen_has_no_loser() {
        let (mut server, a, b) = (Server::new(), replica(1), replica(2));
        let first = set(&a, "x", "1");
        assert!(server.take(&first, "a").is_empty());
        b.apply(&first).unwrap();
        assert!(server.take(&set(&b, "x", "2"), "b").is_empty());
        // Twice in one update, and after a removal.
        let third = set(&b, "x", "3");
        let fourth = set(&b, "x", "4");
        server.take(&third, "b");
        assert!(server.take(&fourth, "b").is_empty());
        let gone = b.edit(&[ProjectEdit::RemoveFile("x".into())]).unwrap();
        server.take(&gone, "b");
        assert!(server.take(&set(&b, "x", "5"), "b").is_empty());
    }

    #[test]
    fn of_two_that_did_not_see_each_other_the_loser_is_told_whoever_it_is() {
        for (first, second) in [(1, 2), (2, 1)] {
            let (mut server, a, b) = (Server::new(), replica(first), replica(second));
            assert!(server.take(&set(&a, "x", "of a"), "a").is_empty());
            let losers = server.take(&set(&b, "x", "of b"), "b");
            let expected = if second > first {
                ("of a", "a")
            } else {
                ("of b", "b")
            };
            assert_eq!(targets(&losers), [expected]);
        }
    }

    #[test]
    fn it_is_told_after_a_restart_and_for_chains_across_clients() {
        let (mut server, a, b, c) = (Server::new(), replica(1), replica(2), replica(3));
        let first = set(&a, "x", "1");
        b.apply(&first).unwrap();
        c.apply(&first).unwrap();
        let second = set(&b, "x", "2");
        server.take(&first, "a");
        server.take(&second, "b");
        let state = server.replica.state();
        server.chains = Chains::of_state(&scan(&state).unwrap());
        // c saw only the first value; its element wins, being of the higher client.
        let losers = server.take(&set(&c, "x", "3"), "c");
        assert_eq!(targets(&losers), [("2", "somebody")]);
        let seen = replica(4);
        seen.apply(&server.replica.state()).unwrap();
        assert!(server.take(&set(&seen, "x", "4"), "d").is_empty());
    }

    #[test]
    fn a_set_against_a_removal_has_no_loser() {
        let (mut server, a, b) = (Server::new(), replica(1), replica(2));
        let first = set(&a, "x", "1");
        b.apply(&first).unwrap();
        server.take(&first, "a");
        server.take(
            &a.edit(&[ProjectEdit::RemoveFile("x".into())]).unwrap(),
            "a",
        );
        assert!(server.take(&set(&b, "x", "2"), "b").is_empty());
        assert_eq!(server.replica.file("x"), Some(json!({ "link": "2" })));
    }
}
