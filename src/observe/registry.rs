//! Every counter there is, for the control plane.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::metrics::{RouteMetrics, SharedCounter, WorkerMetrics};
use crate::config::Site;

/// The counters of every worker and of every route. Belongs to the control plane; the path of a
/// request uses only what was handed out before.
#[derive(Debug)]
pub struct Registry {
    started: SystemTime,
    workers: Vec<Arc<WorkerMetrics>>,
    control: Arc<WorkerMetrics>,
    lines_lost: Arc<SharedCounter>,
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
        self.routes().retain(|(site, route), _| {
            sites.iter().any(|configured| {
                configured.routes.iter().any(|r| r.path.as_str() == route)
                    && configured.name() == *site
            })
        });
    }

    pub(super) fn started(&self) -> SystemTime {
        self.started
    }

    pub(super) fn worker_count(&self) -> usize {
        self.workers.len()
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
            hsts: None,
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
}
