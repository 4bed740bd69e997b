//! Every counter there is, for the control plane.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::metrics::{HandshakeFailure, RouteMetrics, SharedCounter, WorkerMetrics};
use crate::config::Site;

/// The counters of every worker and of every route. Belongs to the control plane; the path of a
/// request uses only what was handed out before.
#[derive(Debug)]
pub struct Registry {
    started: SystemTime,
    workers: Vec<Arc<WorkerMetrics>>,
    control: Arc<WorkerMetrics>,
    lines_lost: Arc<SharedCounter>,
    words_lost: Arc<SharedCounter>,
    unmatched: Arc<RouteSeries>,
    routes: Mutex<Routes>,
}

/// By site and route.
type Routes = BTreeMap<(String, String), Arc<RouteSeries>>;

impl Registry {
    /// For so many workers, all that the program will ever have.
    #[must_use]
    pub fn new(workers: usize, started: SystemTime) -> Self {
        Self {
            started,
            workers: (0..workers).map(|_| Arc::default()).collect(),
            control: Arc::default(),
            lines_lost: Arc::default(),
            words_lost: Arc::default(),
            unmatched: Arc::new(RouteSeries::new(workers)),
            routes: Mutex::default(),
        }
    }

    /// The counters of worker `index`, for that worker's thread only.
    #[must_use]
    pub fn worker(&self, index: usize) -> Option<Arc<WorkerMetrics>> {
        self.workers.get(index).map(Arc::clone)
    }

    /// The counters of the control plane's own thread, the acceptors among them.
    #[must_use]
    pub fn control(&self) -> Arc<WorkerMetrics> {
        Arc::clone(&self.control)
    }

    /// Lines of the access log that could not be written.
    #[must_use]
    pub fn lines_lost(&self) -> Arc<SharedCounter> {
        Arc::clone(&self.lines_lost)
    }

    /// Lines of the program's own log that could not be written.
    #[must_use]
    pub fn words_lost(&self) -> Arc<SharedCounter> {
        Arc::clone(&self.words_lost)
    }

    /// The series of requests that no site or no route took.
    #[must_use]
    pub fn unmatched(&self) -> Arc<RouteSeries> {
        Arc::clone(&self.unmatched)
    }

    /// The series of `route` (its path prefix) of `site` (its first name), new or as it was
    /// before a reload. Only for labels that come from the configuration.
    #[must_use]
    pub fn series(&self, site: &str, route: &str) -> Arc<RouteSeries> {
        let workers = self.workers.len();
        let mut routes = self.routes();
        let series = routes.entry((site.to_owned(), route.to_owned()));
        Arc::clone(series.or_insert_with(|| Arc::new(RouteSeries::new(workers))))
    }

    /// Forgets the series of routes that are not in `sites`, after a reload took effect.
    pub fn retain(&self, sites: &[Site]) {
        let of_site = |site: &Site| {
            let name = site.name();
            let paths = site.routes.iter().map(|route| route.path.as_str().to_owned());
            paths.map(move |path| (name.clone(), path)).collect::<Vec<_>>()
        };
        let configured: HashSet<_> = sites.iter().flat_map(of_site).collect();
        self.routes().retain(|route, _| configured.contains(route));
    }

    pub(super) fn started(&self) -> SystemTime {
        self.started
    }

    pub(super) fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// TLS handshakes so far: those that succeeded, and those that failed as they do when something
    /// is wrong with a certificate or the rules of TLS, not with the way here.
    #[must_use]
    pub fn handshakes(&self) -> (u64, u64) {
        let reasons =
            [HandshakeFailure::Alert, HandshakeFailure::NothingInCommon, HandshakeFailure::Other];
        let failed = |worker: &WorkerMetrics| {
            reasons.iter().map(|reason| worker.handshake_failures.get(*reason)).sum()
        };
        (self.sum(|worker| worker.handshakes.get()), self.sum(failed))
    }

    /// The sum of `read` over all threads.
    pub(super) fn sum(&self, read: impl Fn(&WorkerMetrics) -> u64) -> u64 {
        let threads = self.workers.iter().chain([&self.control]);
        threads.fold(0, |sum, thread| sum.wrapping_add(read(thread)))
    }

    /// The labels and the series of every route, those without a site first.
    pub(super) fn all_routes(&self) -> Vec<(String, String, Arc<RouteSeries>)> {
        let routes = self.routes();
        let unmatched = (String::new(), String::new(), self.unmatched());
        let configured = routes
            .iter()
            .map(|((site, route), series)| (site.clone(), route.clone(), Arc::clone(series)));
        [unmatched].into_iter().chain(configured).collect()
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters of one route, one set per worker.
#[derive(Debug)]
pub struct RouteSeries {
    workers: Vec<RouteMetrics>,
    /// For a worker that the registry was not told of; one, so that nothing can go wrong but a
    /// lost count.
    stray: RouteMetrics,
}

impl RouteSeries {
    fn new(workers: usize) -> Self {
        let workers = (0..workers).map(|_| RouteMetrics::default()).collect();
        Self { workers, stray: RouteMetrics::default() }
    }

    /// The counters of worker `index`, for that worker's thread only.
    #[must_use]
    pub fn worker(&self, index: usize) -> &RouteMetrics {
        self.workers.get(index).unwrap_or(&self.stray)
    }

    /// The sum of `read` over all workers.
    pub(super) fn sum(&self, read: impl Fn(&RouteMetrics) -> u64) -> u64 {
        let workers = self.workers.iter().chain([&self.stray]);
        workers.fold(0, |sum, worker| sum.wrapping_add(read(worker)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::config::{Redirect, Route, TlsSource};
    use crate::proxy::headers::host::HostPattern;
    use crate::proxy::route::PathPrefix;

    fn everything_else() -> Site {
        Site {
            hosts: vec![HostPattern::Any],
            tls: TlsSource::Local,
            key_type: crate::config::KeyType::P256,
            policy: crate::config::TlsPolicy::default(),
            hsts: crate::config::Hsts::Off,
            redirect: Redirect::Https,
            routes: vec![Route {
                path: PathPrefix::root(),
                to: Vec::new(),
                upstream_timeout: Duration::from_secs(60),
                hold: Duration::from_secs(3),
            }],
        }
    }

    #[test]
    fn a_reload_keeps_the_counts_of_what_stays_and_forgets_the_rest() {
        let registry = Registry::new(1, UNIX_EPOCH);
        let site = everything_else();
        let stays = registry.series(&site.name(), "/");
        stays.worker(0).record(200, Duration::ZERO, 0, 7);
        let goes = registry.series("gone.example", "/");
        registry.retain(&[site]);
        goes.worker(0).record(200, Duration::ZERO, 0, 7);
        let labels: Vec<_> = registry.all_routes().into_iter().map(|(s, r, _)| (s, r)).collect();
        let expected = [("", ""), ("*", "/")].map(|(s, r)| (s.to_owned(), r.to_owned()));
        assert_eq!(labels, expected);
        assert_eq!(registry.series("*", "/").sum(|worker| worker.bytes_out.get()), 7);
        assert_eq!(registry.series("gone.example", "/").sum(|worker| worker.bytes_out.get()), 0);
    }

    #[test]
    fn threads_are_added_up() {
        let registry = Registry::new(2, UNIX_EPOCH);
        registry.worker(0).unwrap().sent.add(1);
        registry.worker(1).unwrap().sent.add(10);
        registry.control().sent.add(100);
        assert!(registry.worker(2).is_none());
        assert_eq!(registry.sum(|thread| thread.sent.get()), 111);
    }

    /// Three workers count while the control plane sums; one of them dies on the way. No sum goes
    /// down, and at the end none has lost or doubled a thing.
    #[test]
    fn sums_are_whole_while_workers_count_and_when_one_dies() {
        use std::sync::atomic::{AtomicBool, Ordering};
        const TURNS: u64 = 30_000;
        let registry = Registry::new(3, UNIX_EPOCH);
        let series = registry.series("*", "/");
        let lost = registry.lines_lost();
        let running = AtomicBool::new(true);
        let (sent, requests) = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..3_usize)
                .map(|index| {
                    let (metrics, series, lost) = (registry.worker(index).unwrap(), &series, &lost);
                    let mut random = 88_172_645_463_325_252 + index as u64;
                    scope.spawn(move || {
                        let mut counted = 0;
                        let turns = if index == 1 { TURNS / 3 } else { TURNS };
                        let _held = metrics.hold(|metrics| &metrics.connections);
                        for _ in 0..turns {
                            random ^= random << 13;
                            random ^= random >> 7;
                            random ^= random << 17;
                            metrics.sent.add(random % 1000);
                            counted += random % 1000;
                            series.worker(index).record(
                                200,
                                Duration::from_millis(random % 20_000),
                                1,
                                2,
                            );
                            lost.add(random % 2);
                        }
                        // As a panic would end it: what it holds is given back, what it counted stays.
                        (counted, turns)
                    })
                })
                .collect();
            let watched = scope.spawn(|| {
                let (mut sent, mut requests, mut seen) = (0, 0, 0_u64);
                while running.load(Ordering::Relaxed) {
                    let now = registry.sum(|thread| thread.sent.get());
                    let asked = series.sum(|worker| worker.bytes_in.get());
                    assert!(now >= sent && asked >= requests, "a sum went down");
                    (sent, requests, seen) = (now, asked, seen + 1);
                    std::thread::yield_now();
                }
                seen
            });
            let counts: Vec<(u64, u64)> =
                workers.into_iter().map(|one| one.join().unwrap()).collect();
            running.store(false, Ordering::Relaxed);
            assert!(watched.join().unwrap() > 0);
            (
                counts.iter().map(|one| one.0).sum::<u64>(),
                counts.iter().map(|one| one.1).sum::<u64>(),
            )
        });
        assert_eq!(registry.sum(|thread| thread.sent.get()), sent);
        assert_eq!(series.sum(|worker| worker.bytes_in.get()), requests);
        assert_eq!(
            series.sum(|worker| worker
                .buckets
                .iter()
                .map(crate::observe::metrics::Counter::get)
                .sum()),
            requests
        );
        assert_eq!(registry.sum(|thread| thread.connections.get()), 0);
    }
}
