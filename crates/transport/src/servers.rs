//! Which of several servers a call goes to.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use http::{Uri, uri::Authority};

/// How long a server is left out at first.
const FIRST: Duration = Duration::from_secs(1);

/// So many servers that have gone are still known.
const GONE: usize = 1_000;

/// The servers in turn, without those that are left out for a while because they failed.
/// With each of them goes a `T`: what else is known of it.
#[derive(Debug)]
pub struct Servers<T> {
    all: Vec<Server<T>>,
    /// Whose turn it is, by its place in `all`.
    next: usize,
    /// The number of the next one that comes.
    number: usize,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its address.
    pub uri: Uri,
    /// As [`Connector::authority`](crate::Connector::authority).
    pub authority: Option<Authority>,
}

#[derive(Debug)]
struct Server<T> {
    number: usize,
    place: Place,
    /// Which list has it; `None` when it has gone.
    list: Option<usize>,
    /// Since it last worked.
    failures: u32,
    /// Until when it is left out.
    ejected: Option<Instant>,
    known: T,
}

impl<T> Server<T> {
    fn takes_calls(&self, now: Instant) -> bool {
        self.list.is_some() && self.ejected.is_none_or(|until| until <= now)
    }
}

impl<T> Default for Servers<T> {
    /// None yet. The turns begin at random: the clients of a group spread over it.
    fn default() -> Self {
        Self { all: Vec::new(), next: fastrand::u16(..).into(), number: 0 }
    }
}

impl<T: Default> Servers<T> {
    /// Replaces the servers of one list, and gives the numbers of those that have gone.
    ///
    /// A server keeps its number when it goes and comes back. A server that another list
    /// has stays there.
    pub fn set(&mut self, list: usize, places: Vec<Place>) -> Vec<usize> {
        let mut gone: HashSet<_> =
            self.all.iter().filter(|it| it.list == Some(list)).map(|it| it.number).collect();
        for place in places {
            match self.all.iter_mut().find(|it| it.place == place) {
                Some(server) => {
                    gone.remove(&server.number);
                    server.list.get_or_insert(list);
                }
                None => {
                    let number = self.number;
                    let known = T::default();
                    self.all.push(Server {
                        number,
                        place,
                        list: Some(list),
                        failures: 0,
                        ejected: None,
                        known,
                    });
                    self.number += 1;
                }
            }
        }
        self.all.iter_mut().filter(|it| gone.contains(&it.number)).for_each(|it| it.list = None);
        let mut too_many = self.all.iter().filter(|it| it.list.is_none()).count().saturating_sub(GONE);
        self.all.retain(|it| {
            let forgotten = it.list.is_none() && too_many > 0;
            too_many -= usize::from(forgotten);
            !forgotten
        });
        gone.into_iter().collect()
    }
}

impl<T> Servers<T> {
    fn get(&self, server: usize) -> Option<&Server<T>> {
        self.all.iter().find(|it| it.number == server)
    }

    fn get_mut(&mut self, server: usize) -> Option<&mut Server<T>> {
        self.all.iter_mut().find(|it| it.number == server)
    }

    /// Where a server is, or was before it went.
    pub fn place(&self, server: usize) -> Option<&Place> {
        self.get(server).map(|it| &it.place)
    }

    /// What else is known of a server, also of one that has gone.
    pub fn known(&self, server: usize) -> Option<&T> {
        self.get(server).map(|it| &it.known)
    }

    /// [`known`](Self::known), to change it.
    pub fn known_mut(&mut self, server: usize) -> Option<&mut T> {
        self.get_mut(server).map(|it| &mut it.known)
    }

    /// The numbers of the servers that are there, in the order in which they came.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.all.iter().filter(|it| it.list.is_some()).map(|it| it.number)
    }

    /// What else is known of the servers of one list, to change it.
    pub fn of_list(&mut self, list: usize) -> impl Iterator<Item = &mut T> {
        self.all.iter_mut().filter(move |it| it.list == Some(list)).map(|it| &mut it.known)
    }

    /// Whether another list has a server at this address.
    pub fn is_elsewhere(&self, uri: &Uri, list: usize) -> bool {
        self.all.iter().any(|it| it.place.uri == *uri && it.list.is_some_and(|of| of != list))
    }

    /// How many servers there are.
    pub fn count(&self) -> usize {
        self.numbers().count()
    }

    /// The next server in turn; when all are left out, the one that is so for
    /// the shortest time. Whether one whose time is over works again is found
    /// out by one call, and not by all that come meanwhile.
    pub fn choose(&mut self, now: Instant) -> Option<usize> {
        let count = self.all.len();
        let in_turn = (0..count).map(|n| (self.next + n) % count);
        let left = |place: &usize| {
            self.all[*place].ejected.map(|until| until.saturating_duration_since(now)).unwrap_or_default()
        };
        // The first one of those for which nothing is left.
        let chosen = in_turn.filter(|place| self.all[*place].list.is_some()).min_by_key(left)?;
        self.next = chosen + 1;
        let server = &mut self.all[chosen];
        if server.ejected.is_some_and(|until| until <= now) {
            server.ejected = Some(now + FIRST);
        }
        Some(server.number)
    }

    /// Gives the turn back.
    pub fn return_turn(&mut self, server: usize) {
        self.next = self.all.iter().position(|it| it.number == server).unwrap_or(self.next);
    }

    /// Whether any server is not left out.
    pub fn has_one(&self, now: Instant) -> bool {
        self.all.iter().any(|it| it.takes_calls(now))
    }

    /// Whether any but this one is not left out.
    pub fn has_another(&self, server: usize, now: Instant) -> bool {
        self.all.iter().any(|it| it.number != server && it.takes_calls(now))
    }

    /// Leaves a server out that has failed: for a second, twice as long with
    /// each failure that follows, and not less than it asks for.
    pub fn eject(&mut self, server: usize, asked: Option<Duration>, now: Instant) -> Duration {
        const LONGEST: Duration = Duration::from_secs(30);
        let Some(server) = self.get_mut(server) else { return Duration::ZERO };
        let time = FIRST.saturating_mul(1 << server.failures.min(10)).max(asked.unwrap_or_default());
        let time = time.min(LONGEST);
        server.failures = server.failures.saturating_add(1);
        server.ejected = Some(now + time);
        time
    }

    /// Takes a server back that has done its work.
    pub fn worked(&mut self, server: usize) {
        if let Some(server) = self.get_mut(server) {
            (server.failures, server.ejected) = (0, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn place(name: usize) -> Place {
        Place { uri: format!("http://server-{name}/").parse().unwrap(), authority: None }
    }

    fn servers(count: usize) -> Servers<()> {
        let mut servers = Servers::default();
        servers.set(0, (0..count).map(place).collect());
        servers.return_turn(0);
        servers
    }

    fn chosen(servers: &mut Servers<()>, times: usize, now: Instant) -> Vec<usize> {
        (0..times).map(|_| servers.choose(now).unwrap()).collect()
    }

    #[test]
    fn servers_of_a_list_come_and_go_and_keep_their_numbers() {
        let (mut servers, now) = (servers(2), Instant::now());
        assert_eq!(servers.set(0, vec![place(1), place(2)]), [0]);
        assert_eq!(chosen(&mut servers, 3, now), [1, 2, 1]);
        assert_eq!(servers.place(0), Some(&place(0)));
        // Another list has one that is there, one that was there, and a new one.
        assert!(servers.set(7, vec![place(1), place(0), place(3)]).is_empty());
        assert_eq!(servers.numbers().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(servers.set(7, Vec::new()).len(), 2);
        assert_eq!(servers.numbers().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(servers.set(0, Vec::new()).len(), 2);
        assert_eq!((servers.choose(now), servers.has_one(now)), (None, false));
    }

    #[test]
    fn servers_that_come_and_go_without_end_are_forgotten() {
        let mut servers = servers(1);
        (1..3_000).for_each(|name| _ = servers.set(0, vec![place(name)]));
        assert_eq!(servers.all.len(), GONE + 1);
        assert_eq!(servers.eject(0, None, Instant::now()), Duration::ZERO);
        assert_eq!(servers.place(0), None);
        assert_eq!(servers.choose(Instant::now()), Some(2_999));
    }

    #[test]
    fn each_has_its_turn_from_a_random_one_on() {
        let now = Instant::now();
        assert_eq!(chosen(&mut servers(3), 7, now), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(chosen(&mut servers(1), 3, now), [0, 0, 0]);
        let first = |_| {
            let mut servers = Servers::<()>::default();
            servers.set(0, (0..3).map(place).collect());
            servers.choose(now)
        };
        assert_eq!((0..200).map(first).collect::<HashSet<_>>().len(), 3);
    }

    #[test]
    fn one_that_failed_is_left_out_until_its_time_is_over() {
        let (mut servers, now) = (servers(3), Instant::now());
        assert_eq!(servers.eject(1, None, now), SECOND);
        assert_eq!(chosen(&mut servers, 4, now), [0, 2, 0, 2]);
        assert_eq!(chosen(&mut servers, 2, now + SECOND - Duration::from_nanos(1)), [0, 2]);
        // One call finds out whether it works again.
        assert_eq!(chosen(&mut servers, 5, now + SECOND), [0, 1, 2, 0, 2]);
        assert_eq!(chosen(&mut servers, 3, now + 2 * SECOND), [0, 1, 2]);
        servers.worked(1);
        assert_eq!(chosen(&mut servers, 3, now + 2 * SECOND), [0, 1, 2]);
    }

    #[test]
    fn the_time_doubles_up_to_a_bound_until_the_server_works() {
        let (mut servers, now) = (servers(2), Instant::now());
        let times: Vec<_> = (0..8).map(|_| servers.eject(0, None, now).as_secs()).collect();
        assert_eq!(times, [1, 2, 4, 8, 16, 30, 30, 30]);
        (0..100).for_each(|_| assert_eq!(servers.eject(0, None, now), 30 * SECOND));
        servers.worked(0);
        assert_eq!(chosen(&mut servers, 2, now), [0, 1]);
        assert_eq!(servers.eject(0, None, now), SECOND);
    }

    #[test]
    fn a_server_that_asks_for_more_time_gets_it_within_the_bound() {
        let (mut servers, now) = (servers(2), Instant::now());
        assert_eq!(servers.eject(0, Some(5 * SECOND), now), 5 * SECOND);
        assert_eq!(servers.eject(1, Some(3_600 * SECOND), now), 30 * SECOND);
        assert_eq!(servers.eject(0, Some(SECOND), now), 2 * SECOND);
    }

    #[test]
    fn when_all_are_left_out_it_is_the_one_whose_time_is_over_first() {
        let (mut servers, now) = (servers(3), Instant::now());
        for server in [0, 0, 0, 1, 2, 2] {
            servers.eject(server, None, now);
        }
        assert!(!servers.has_one(now));
        assert!(servers.has_another(0, now + SECOND) && !servers.has_another(1, now + SECOND));
        assert_eq!(chosen(&mut servers, 2, now), [1, 1]);
        assert!(servers.has_one(now + SECOND));
        servers.eject(1, None, now + SECOND);
        assert_eq!(servers.choose(now + SECOND), Some(2));
    }
}
