//! Which of several servers a call goes to.

use std::time::{Duration, Instant};

use http::Uri;

/// How long a server is left out at first.
const FIRST: Duration = Duration::from_secs(1);

/// The servers in turn, without those that are left out for a while because
/// they failed. There is at least one.
#[derive(Debug)]
pub struct Servers {
    all: Vec<Server>,
    /// Whose turn it is.
    next: usize,
}

#[derive(Debug)]
struct Server {
    uri: Uri,
    /// Since it last worked.
    failures: u32,
    /// Until when it is left out.
    ejected: Option<Instant>,
}

impl Servers {
    /// From a random one on: the clients of a group spread over it.
    pub fn new(uris: &[Uri]) -> Self {
        let server = |uri: &Uri| Server { uri: uri.clone(), failures: 0, ejected: None };
        Self { all: uris.iter().map(server).collect(), next: fastrand::usize(..uris.len().max(1)) }
    }

    /// The address of a server.
    pub fn uri(&self, server: usize) -> &Uri {
        &self.all[server].uri
    }

    /// How many servers there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The next server in turn; when all are left out, the one that is so for
    /// the shortest time. Whether one whose time is over works again is found
    /// out by one call, and not by all that come meanwhile.
    pub fn choose(&mut self, now: Instant) -> usize {
        let in_turn = (0..self.all.len()).map(|n| (self.next + n) % self.all.len());
        let left =
            |server: &usize| self.all[*server].ejected.map(|until| until.saturating_duration_since(now));
        // The first one of those for which nothing is left.
        let chosen = in_turn.min_by_key(|server| left(server).unwrap_or_default()).unwrap_or_default();
        self.next = (chosen + 1) % self.all.len();
        let ejected = &mut self.all[chosen].ejected;
        if ejected.is_some_and(|until| until <= now) {
            *ejected = Some(now + FIRST);
        }
        chosen
    }

    /// Gives the turn back.
    pub fn return_turn(&mut self, server: usize) {
        self.next = server;
    }

    /// Whether any server is not left out.
    pub fn has_one(&self, now: Instant) -> bool {
        self.all.iter().any(|server| server.ejected.is_none_or(|until| until <= now))
    }

    /// Whether any but this one is not left out.
    pub fn has_another(&self, server: usize, now: Instant) -> bool {
        let others = self.all.iter().enumerate().filter(|(other, _)| *other != server);
        others.map(|(_, other)| other).any(|other| other.ejected.is_none_or(|until| until <= now))
    }

    /// Leaves a server out that has failed: for a second, twice as long with
    /// each failure that follows, and not less than it asks for.
    pub fn eject(&mut self, server: usize, asked: Option<Duration>, now: Instant) -> Duration {
        const LONGEST: Duration = Duration::from_secs(30);
        let server = &mut self.all[server];
        let time = FIRST.saturating_mul(1 << server.failures.min(10)).max(asked.unwrap_or_default());
        let time = time.min(LONGEST);
        server.failures = server.failures.saturating_add(1);
        server.ejected = Some(now + time);
        time
    }

    /// Takes a server back that has done its work.
    pub fn worked(&mut self, server: usize) {
        let server = &mut self.all[server];
        (server.failures, server.ejected) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn servers(count: usize) -> Servers {
        let uris: Vec<Uri> = (1..=count).map(|n| format!("http://server-{n}/").parse().unwrap()).collect();
        let mut servers = Servers::new(&uris);
        servers.return_turn(0);
        servers
    }

    fn chosen(servers: &mut Servers, times: usize, now: Instant) -> Vec<usize> {
        (0..times).map(|_| servers.choose(now)).collect()
    }

    #[test]
    fn each_has_its_turn_from_a_random_one_on() {
        let now = Instant::now();
        assert_eq!(chosen(&mut servers(3), 7, now), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(chosen(&mut servers(1), 3, now), [0, 0, 0]);
        let uris = ["http://a/", "http://b/", "http://c/"].map(Uri::from_static);
        let first: std::collections::HashSet<_> = (0..200).map(|_| Servers::new(&uris).choose(now)).collect();
        assert_eq!(first.len(), 3);
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
        assert_eq!(servers.choose(now + SECOND), 2);
    }
}
