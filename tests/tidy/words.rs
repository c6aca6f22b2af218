//! One word for one thing: names that code has had and that do not come back, each with the field's
//! word for it. Names in quotes are not code: members of the API, columns and metrics stay.

use super::assert_none;
use super::source::{self, File, repository, words};

const GONE: &[(&str, &str)] = &[
    ("AnotherNumber", "RetryWithNewNumber"),
    ("Asker", "RequestContext"),
    ("ByHand", "ConsoleRefund"),
    ("Choice", "RoutingDecision"),
    ("DECISIONS", "MAX_CAS_RETRIES"),
    ("Desk", "Dispatcher"),
    ("Fact", "Count"),
    ("GoAstray", "MarkAbnormal"),
    ("Hinge", "ListenerHandle"),
    ("Judged", "CreateEffects"),
    ("Knock", "Command"),
    ("Letter", "SignedRequest"),
    ("Manner", "BreakerConfig"),
    ("Mood", "PayerBehaviour"),
    ("Paces", "Limiters"),
    ("Queried", "QueryOutcome"),
    ("Ran", "RunResult"),
    ("RefundQueried", "RefundQueryOutcome"),
    ("Scene", "RoutingInput"),
    ("Settled", "NextStep"),
    ("Standing", "HealthStatus"),
    ("TerminalNo", "Rejected"),
    ("Tried", "TriedRoute"),
    ("TryRow", "DeliveryAttempt"),
    ("Undelivered", "SendError"),
    ("Usual", "Baseline"),
    ("Vital", "HealthRecord"),
    ("Word", "Decision"),
    ("breaks", "mutated"),
    ("call_up", "claim_parked"),
    ("consider", "rank_routes"),
    ("forger", "attacker"),
    ("lets_in", "is_admitted"),
    ("not_found_twice_s", "confirm_not_found_after_s"),
    ("patience_s", "reverse_after_s"),
    ("renumber", "refund_retry"),
    ("sights", "signals"),
    ("takes_money", "is_charge"),
    ("theta", "sampled_success"),
    ("undo_later", "start_reversal"),
    ("weigh", "verify"),
    ("went_on", "released"),
];

fn words_that_came_back(files: &[File]) -> Vec<String> {
    let ours = files
        .iter()
        .filter(|file| file.is_rust() && file.is_in(&["src/", "providers/src/", "migrations/"]));

    let mut findings = Vec::new();
    for file in ours {
        let code = source::code(&file.text);
        for (word, instead) in GONE {
            let places = words(&code, word);
            findings.extend(
                places
                    .into_iter()
                    .map(|at| format!("{}: {word} is {instead} here", file.at(at))),
            );
        }
    }
    findings
}

#[test]
fn no_word_that_is_gone_comes_back() {
    assert_none(&words_that_came_back(&repository().unwrap()));
}

#[test]
fn a_word_that_comes_back_is_found_in_code_alone() {
    for (word, instead) in GONE {
        let text = format!("//! {word}\nfn f() -> {word} {{ \"{word}\" }}\nfn {word}s() {{}}\n");
        let found =
            words_that_came_back(&[File::new("src/a.rs", &text), File::new("tests/a.rs", &text)]);
        assert_eq!(found, [format!("src/a.rs:2: {word} is {instead} here")]);
    }
}
