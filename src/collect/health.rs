//! States of the collection itself, and when Wazuh is told of them; pure.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::ledger::{Gap, HealthState, Scope, Standing};
use crate::microsoft::{Class, Fault, SKEW, SWITCH_AUDIT_LOG_ON, cure_of};

/// A state that is not told at once is told when so many runs saw it …
const RUNS: u32 = 3;
/// … or when it has lasted so long.
const LASTED: TimeDelta = TimeDelta::minutes(15);
/// A state that lasts is told again after so long.
const AGAIN: TimeDelta = TimeDelta::days(1);
/// A gap stands in the ledger so long after it was told last.
const GAP_KEPT: TimeDelta = TimeDelta::days(8);
/// Days before its end at which a secret or certificate is told of.
const EXPIRING: [i64; 4] = [1, 7, 14, 30];

/// How a state is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// At once, then daily, and when it ends.
    AtOnce,
    /// When it has lasted a while, then daily, and when it ends.
    Patient,
    /// At once, at each change, and when it ends.
    Staged,
    /// A fact that does not pass: once.
    Fact,
}

fn manner(state: &str, scope: Scope) -> Manner {
    match state {
        // A content type that the app was not meant to read is no news the next day.
        "permission_missing" if scope.is_some() => Manner::Staged,
        "auth_failed" | "permission_missing" => Manner::AtOnce,
        "secret_expiring" | "certificate_expiring" => Manner::Staged,
        "content_lost" | Gap::STATE | "ledger_recovered" => Manner::Fact,
        _ => Manner::Patient,
    }
}

/// States that keep something from being collected.
pub(super) const FAULTS: [&str; 6] = [
    "auth_failed",
    "permission_missing",
    "audit_log_off",
    "subscription_failed",
    "fetch_failed",
    "throttled",
];

/// A state that a run saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Its name in the event.
    pub(super) state: &'static str,
    /// What it is at: a change is told.
    pub(super) detail: String,
    /// What is wrong.
    pub(super) response: String,
    /// The cure.
    pub(super) hint: String,
}

impl Finding {
    /// A fault of Microsoft's, or of the way there; `of_start`: in the start of a subscription.
    pub(super) fn of_fault(fault: &Fault, of_start: bool) -> Self {
        let code = fault.code.as_deref().unwrap_or_default();
        let state = match fault.class {
            // Only a content type that the cloud does not know.
            Class::TypeUnavailable if code == "AF20020" => "subscription_failed",
            Class::TypeUnavailable => "permission_missing",
            Class::AuditLogOff => "audit_log_off",
            Class::Throttled => "throttled",
            Class::RefuseTenant | Class::NewToken
                if matches!(code, "AF10001" | "AADSTS501051")
                    || !(fault.is_of_sign_in
                        || code.starts_with("AADSTS")
                        || code.starts_with("AF200")) =>
            {
                "permission_missing"
            }
            Class::RefuseTenant | Class::NewToken => "auth_failed",
            Class::StartSubscription | Class::StartTooSoon => "subscription_failed",
            _ if of_start => "subscription_failed",
            _ => "fetch_failed",
        };
        Self {
            state,
            // It comes with many codes, which say the same.
            detail: if state == "throttled" { "" } else { code }.to_owned(),
            response: serde_json::json!({
                "error": fault.message,
                "code": fault.code,
                "status": fault.status,
                "trace_id": fault.trace_id,
                "correlation_id": fault.correlation_id,
            })
            .to_string(),
            hint: fault.cure.to_owned(),
        }
    }

    /// A credential that cannot be read.
    pub(super) fn of_credential(what: &str) -> Self {
        Self::new(
            "auth_failed",
            "credential",
            what,
            "mend the tenant's credential; `o365-wodle doctor` says what is wrong with it",
        )
    }

    /// Contents that are tried in vain, though the listing works.
    pub(super) fn of_contents(failed: u64, why: &str) -> Self {
        Self::new(
            "fetch_failed",
            "contents",
            format!("{failed} contents could not be fetched so far: {why}"),
            "nothing is lost yet: each run tries them again until they expire; `o365-wodle doctor` looks for the cause",
        )
    }

    /// Contents that expired unfetched, of all time.
    pub(super) fn of_lost(lost: u64) -> Self {
        Self::new(
            "content_lost",
            lost.to_string(),
            format!("{lost} contents in all expired at Microsoft before they could be fetched"),
            "the portal's audit search may still have their records; see the log for what kept them from being fetched",
        )
    }

    /// A stream without new contents, if it is one that used to have them.
    pub(super) fn of_silence(
        last: DateTime<Utc>,
        days: u32,
        after: Duration,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        let after = TimeDelta::from_std(after)
            .ok()
            .filter(|after| !after.is_zero())?;
        (days == 3 && now - last > after).then(|| {
            Self::new("silent", "", format!("nothing new since {}, though there was something on each of the three days before", last.format("%F %T UTC")), "look whether the portal's audit search has newer records; if so, run `o365-wodle doctor`, and check that nobody switched the audit log or the subscription off")
        })
    }

    /// This machine's clock against Microsoft's.
    pub(super) fn of_skew(skew: TimeDelta) -> Option<Self> {
        let (detail, by) = if skew > TimeDelta::zero() {
            ("ahead of", skew)
        } else {
            ("behind", -skew)
        };
        (by > SKEW).then(|| {
            Self::new("clock_skew", detail, format!("this machine's clock is {} s {detail} Microsoft's", by.num_seconds()), "set this machine's clock (time synchronisation); records are not affected, since Microsoft's time counts")
        })
    }

    /// A ledger that was lost.
    pub(super) fn of_recovery(at: DateTime<Utc>) -> Self {
        Self::new(
            "ledger_recovered",
            at.to_rfc3339(),
            format!(
                "the ledger was damaged and set aside at {}",
                at.format("%F %T UTC")
            ),
            "the last 7 days are read again, so records of that time come a second time; look for the cause: a failing disk, a crash of the machine, another program",
        )
    }

    /// A secret or certificate that ends soon, or has.
    pub(super) fn of_expiry(
        state: &'static str,
        end: NaiveDate,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        let left = (end - now.date_naive()).num_days();
        let detail = EXPIRING.into_iter().find(|days| left <= *days)?;
        let what = if state == "certificate_expiring" {
            "certificate"
        } else {
            "client secret"
        };
        let (detail, response) = if left < 0 {
            ("expired".to_owned(), format!("the {what} expired on {end}"))
        } else {
            let when = match left {
                0 => "today".to_owned(),
                1 => "tomorrow".to_owned(),
                _ => format!("in {left} days"),
            };
            (
                detail.to_string(),
                format!("the {what} expires on {end}, {when}"),
            )
        };
        Some(Self::new(
            state,
            detail,
            response,
            "make a new one and add it in Azure: App registrations > the app > Certificates & secrets; then replace the old one here: a secret with `o365-wodle tenant rotate NAME --from FILE` (and tell client_secret_expires), a certificate in its certificate_file",
        ))
    }

    /// Whether it is a request that failed, of which one a scope is enough.
    pub(super) fn is_fault(&self) -> bool {
        FAULTS.contains(&self.state)
    }

    /// A fault of a tenant that is left alone since, so that it was not seen again; none if the state is no fault.
    pub(super) fn lasting(state: &HealthState, error: &str) -> Option<Self> {
        let name = FAULTS.into_iter().find(|name| *name == state.state)?;
        // Throttling comes with many codes.
        let code = match name {
            "throttled" => "429",
            _ => &state.detail,
        };
        let said = || error.split_once("; ").map(|(_, cure)| cure);
        let cure = match name {
            "audit_log_off" => SWITCH_AUDIT_LOG_ON,
            _ => (cure_of(code).or_else(said)).unwrap_or("see the log of the run that found it"),
        };
        let hint =
            format!("{cure}; once it is mended, `o365-wodle doctor` lets the next run try at once");
        Some(Self::new(name, &state.detail, error, hint))
    }

    fn new(
        state: &'static str,
        detail: impl Into<String>,
        response: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            state,
            detail: detail.into(),
            response: response.into(),
            hint: hint.into(),
        }
    }
}

/// What the ledger knows of a stream that was listed, beside what was `found` already.
pub(super) fn of_standing(
    standing: &Standing,
    found: &[Finding],
    is_unheard: bool,
    silent_after: Duration,
    now: DateTime<Utc>,
) -> Vec<Finding> {
    let has_fault = found.iter().any(Finding::is_fault);
    let contents = (standing.failed > 0 && !has_fault).then(|| {
        let why = standing.error.as_deref().unwrap_or("see the log");
        Finding::of_contents(standing.failed, why)
    });
    let lost = (standing.lost > 0).then(|| Finding::of_lost(standing.lost));
    // What cannot be listed may well speak.
    let silence = standing
        .last_words
        .filter(|_| !is_unheard)
        .and_then(|(last, days)| Finding::of_silence(last, days, silent_after, now));
    [contents, lost, silence].into_iter().flatten().collect()
}

/// Something to tell Wazuh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) state: String,
    pub(super) since: DateTime<Utc>,
    pub(super) count: u32,
    pub(super) response: String,
    pub(super) hint: String,
}

/// [`assess`] of the states that a run looked at; the others stay as they are.
pub(super) fn assess_some(
    scope: Scope,
    known: Vec<HealthState>,
    is_looked_at: impl Fn(&HealthState) -> bool,
    found: &[Finding],
    now: DateTime<Utc>,
) -> (Vec<HealthState>, Vec<Said>) {
    let (looked_at, others): (Vec<_>, Vec<_>) = known.into_iter().partition(is_looked_at);
    let (mut states, said) = assess(scope, looked_at, found, now);
    states.extend(others);
    (states, said)
}

fn number(detail: &str) -> u64 {
    detail.parse().unwrap_or_default()
}

/// What is known of a scope after a run that looked at it, and what is to be told.
fn assess(
    scope: Scope,
    known: Vec<HealthState>,
    found: &[Finding],
    now: DateTime<Utc>,
) -> (Vec<HealthState>, Vec<Said>) {
    let (mut states, mut said) = (Vec::new(), Vec::new());
    for finding in found {
        let before = known.iter().find(|state| state.state == finding.state);
        let mut state = before.cloned().unwrap_or_else(|| HealthState {
            state: finding.state.to_owned(),
            detail: finding.detail.clone(),
            since: now,
            runs: 0,
            said: None,
        });
        state.runs = state.runs.saturating_add(1);
        // Fewer are lost where Microsoft hands out again what was given up: that is no news to be alarmed by.
        let are_fewer =
            finding.state == "content_lost" && number(&finding.detail) < number(&state.detail);
        let has_changed = state.detail != finding.detail && !are_fewer;
        state.detail.clone_from(&finding.detail);
        let manner = manner(finding.state, scope);
        let is_due = match state.said {
            None => manner != Manner::Patient || state.runs >= RUNS || now - state.since >= LASTED,
            Some(last) => {
                has_changed
                    || matches!(manner, Manner::AtOnce | Manner::Patient) && now - last >= AGAIN
            }
        };
        if is_due {
            state.said = Some(now);
            said.push(Said {
                state: finding.state.to_owned(),
                since: state.since,
                count: state.runs,
                response: finding.response.clone(),
                hint: finding.hint.clone(),
            });
        }
        states.push(state);
    }
    for ended in known {
        let is_found = found.iter().any(|finding| finding.state == ended.state);
        if !is_found
            && Gap::of(&ended).is_some()
            && ended.said.is_some_and(|said| (now - said).abs() < GAP_KEPT)
        {
            states.push(ended);
        } else if !is_found && ended.said.is_some() && manner(&ended.state, scope) != Manner::Fact {
            said.push(Said {
                response: format!("{} has ended", ended.state),
                hint: "nothing to do".to_owned(),
                state: "recovered".to_owned(),
                since: ended.since,
                count: ended.runs,
            });
        }
    }
    (states, said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ContentType;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn finding(state: &'static str, detail: &str) -> Finding {
        Finding::new(state, detail, "", "")
    }

    /// Runs at these minutes, each of which sees a detail of a state or nothing; what is told when.
    fn story(state: &'static str, runs: &[(i64, Option<&str>)]) -> Vec<(i64, String, u32)> {
        story_of(None, state, runs)
    }

    fn story_of(
        scope: Scope,
        state: &'static str,
        runs: &[(i64, Option<&str>)],
    ) -> Vec<(i64, String, u32)> {
        let (mut known, mut told) = (Vec::new(), Vec::new());
        for &(minutes, detail) in runs {
            let found: Vec<_> = detail
                .map(|detail| finding(state, detail))
                .into_iter()
                .collect();
            let (states, said) = assess(scope, known, &found, at(minutes));
            known = states;
            told.extend(
                said.into_iter()
                    .map(|said| (minutes, said.state, said.count)),
            );
        }
        told
    }

    #[test]
    fn a_gap_is_known_for_some_days_after_it_was_told() {
        let gap = Gap {
            since: at(0),
            until: at(60),
        };
        let left = |minutes: i64| {
            let state = HealthState {
                state: Gap::STATE.to_owned(),
                detail: gap.detail(),
                since: at(0),
                runs: 1,
                said: Some(at(60)),
            };
            let (states, said) = assess(None, vec![state], &[], at(60 + minutes));
            assert_eq!(said, []);
            states.len()
        };
        let days = 24 * 60;
        assert_eq!([0, 7 * days, 8 * days].map(left), [1, 1, 0]);
        // a clock ran ahead when it was told
        assert_eq!(left(-400 * days), 0);
    }

    #[test]
    fn states_are_told_when_they_begin_change_last_and_end() {
        let told = |minutes, state: &str, count| (minutes, state.to_owned(), count);
        // At once, once a day while it lasts, and when it ends.
        assert_eq!(
            story(
                "auth_failed",
                &[
                    (0, Some("a")),
                    (60, Some("a")),
                    (1439, Some("a")),
                    (1440, Some("a")),
                    (1500, None),
                    (1505, None)
                ]
            ),
            [
                told(0, "auth_failed", 1),
                told(1440, "auth_failed", 4),
                told(1500, "recovered", 4)
            ]
        );
        // Of a content type alone not each day anew.
        assert_eq!(
            story_of(
                Some(ContentType::Dlp),
                "permission_missing",
                &[(0, Some("a")), (1440, Some("a")), (1500, None)]
            ),
            [told(0, "permission_missing", 1), told(1500, "recovered", 2)]
        );
        // Another code is another state.
        assert_eq!(
            story(
                "auth_failed",
                &[(0, Some("a")), (5, Some("b")), (10, Some("b"))]
            ),
            [told(0, "auth_failed", 1), told(5, "auth_failed", 2)]
        );
        // What passes by itself is not worth a word.
        assert_eq!(
            story("fetch_failed", &[(0, Some("")), (5, Some("")), (10, None)]),
            []
        );
        assert_eq!(
            story(
                "fetch_failed",
                &[(0, Some("")), (5, Some("")), (10, Some("")), (15, None)]
            ),
            [told(10, "fetch_failed", 3), told(15, "recovered", 3)]
        );
        assert_eq!(
            story("throttled", &[(0, Some("")), (15, Some(""))]),
            [told(15, "throttled", 2)]
        );
        // A fact is told once, and does not end.
        assert_eq!(
            story(
                "content_lost",
                &[
                    (0, Some("2")),
                    (5, Some("2")),
                    (3000, Some("2")),
                    (3005, Some("3")),
                    (3007, Some("1")),
                    (3010, None)
                ]
            ),
            [told(0, "content_lost", 1), told(3005, "content_lost", 4)]
        );
        assert_eq!(
            story(
                "secret_expiring",
                &[
                    (0, Some("30")),
                    (3000, Some("30")),
                    (4000, Some("14")),
                    (4005, None)
                ]
            ),
            [
                told(0, "secret_expiring", 1),
                told(4000, "secret_expiring", 3),
                told(4005, "recovered", 3)
            ]
        );
    }

    #[test]
    fn a_fault_is_the_state_that_its_cure_belongs_to() {
        use Class::{
            AuditLogOff, Failed, RefuseTenant, Retry, StartTooSoon, Throttled, TypeUnavailable,
        };
        for (class, code, of_start, state) in [
            (RefuseTenant, "AADSTS7000222", false, "auth_failed"),
            (RefuseTenant, "AF20010", false, "auth_failed"),
            (RefuseTenant, "AF10001", false, "permission_missing"),
            (RefuseTenant, "AADSTS501051", false, "permission_missing"),
            (RefuseTenant, "", false, "permission_missing"),
            (TypeUnavailable, "", true, "permission_missing"),
            (AuditLogOff, "AF20011", true, "audit_log_off"),
            (Throttled, "AF429", false, "throttled"),
            (StartTooSoon, "429", true, "subscription_failed"),
            (Failed, "", true, "subscription_failed"),
            (Retry, "AF50000", false, "fetch_failed"),
        ] {
            let fault = Fault {
                class,
                code: (!code.is_empty()).then(|| code.into()),
                status: None,
                message: "no".into(),
                cure: "do",
                trace_id: None,
                correlation_id: None,
                retry_after: None,
                url: "".into(),
                is_of_sign_in: false,
            };
            let found = Finding::of_fault(&fault, of_start);
            assert_eq!(
                (found.state, &*found.hint),
                (state, "do"),
                "{class:?} {code}"
            );
        }
    }

    #[test]
    fn expiries_are_told_at_30_14_7_and_1_days() {
        let now = at(0);
        let detail = |days: i64| {
            let end = (now + TimeDelta::days(days)).date_naive();
            Finding::of_expiry("secret_expiring", end, now).map(|finding| finding.detail)
        };
        for (days, expected) in [
            (31, None),
            (30, Some("30")),
            (15, Some("30")),
            (14, Some("14")),
            (7, Some("7")),
            (2, Some("7")),
            (1, Some("1")),
            (0, Some("1")),
            (-1, Some("expired")),
        ] {
            assert_eq!(detail(days).as_deref(), expected, "{days}");
        }
        let certificate = Finding::of_expiry("certificate_expiring", now.date_naive(), now);
        let hint = certificate.map(|finding| finding.hint).unwrap_or_default();
        assert!(
            hint.ends_with("a certificate in its certificate_file"),
            "{hint}"
        );
    }

    #[test]
    fn silence_and_skew_have_their_bounds() {
        let (day, now) = (Duration::from_hours(24), at(10_000));
        let silent = |ago, days| {
            Finding::of_silence(now - TimeDelta::minutes(ago), days, day, now).is_some()
        };
        assert!(silent(1_441, 3) && !silent(1_440, 3) && !silent(5_000, 2));
        assert!(
            Finding::of_silence(at(0), 3, Duration::ZERO, now).is_none(),
            "never"
        );
        let skew =
            |seconds| Finding::of_skew(TimeDelta::seconds(seconds)).map(|finding| finding.detail);
        assert_eq!((skew(60), skew(-60)), (None, None));
        assert_eq!(
            (skew(61).as_deref(), skew(-61).as_deref()),
            (Some("ahead of"), Some("behind"))
        );
    }
}
