//! What a drill prints: the plan first, then each violation with the seed that leads to it, then
//! the sums; and one line for programs.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::audit::{ENDED_WITHIN_S, Figures, Violation};
use super::compare::Compared;
use super::error::Error;
use super::options::Options;
use super::outcome::{Outcome, percent};
use super::quiesce::REST_WITHIN_S;
use super::scenario::{Plan, Scenario};
use crate::testing::kill;

/// What is about to be drilled.
pub fn announce(wanted: &Options, out: &mut dyn Write) -> io::Result<()> {
    let (scenario, first, last) = (wanted.scenario, wanted.seeds.start(), wanted.seeds.end());
    let database = if wanted.postgres.is_some() {
        "PostgreSQL, two gateways"
    } else {
        "SQLite, one gateway"
    };

    writeln!(
        out,
        "interlock drill: {} on {database}, seeds {first} to {last}, {} payments each",
        scenario.name, wanted.payments
    )?;

    writeln!(
        out,
        "{}\n",
        scenario
            .about
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    )
}

/// A page about a scenario: what it is about, and what its first seed draws.
///
/// # Errors
/// Nobody reads.
pub fn explain(scenario: Scenario, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{} ({} payments)\n", scenario.name, scenario.payments)?;
    writeln!(out, "  {}\n", scenario.about)?;
    show(&scenario.plan(1, scenario.payments, 2, true), out)?;
    writeln!(out)
}

/// What a seed has drawn.
///
/// # Errors
/// Nobody reads.
pub fn show(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "the plan of seed {}:", plan.seed)?;
    writeln!(
        out,
        "  {} payments over {} ms, {} at once; clocks hurry by up to {} s; of a thousand {:?}",
        plan.payments, plan.spread_ms, plan.at_once, plan.hurry_s, plan.habits
    )?;

    writeln!(
        out,
        "  webhooks: {:?}; of a thousand orders {} leak and {} are paid too late; {} forgeries a \
        second",
        plan.manners, plan.leaks, plan.too_late, plan.forgeries
    )?;

    for fault in plan.faults.iter().chain(&plan.refund_ends) {
        writeln!(out, "  from the beginning: {fault}")?;
    }
    for set in &plan.sets {
        writeln!(out, "  then: {set:?}")?;
    }
    if let Some(storm) = &plan.storm {
        writeln!(out, "  {storm:?}")?;
    }
    for (at, blow) in &plan.blows {
        writeln!(out, "  after {at:>5} ms: {blow:?}")?;
    }

    Ok(())
}

/// What all runs came to.
#[derive(Debug, Default)]
pub struct Results {
    runs: u64,
    figures: Figures,
    violations: Vec<(u64, Violation)>,
    waits_ms: Vec<u64>,
    kills: u32,
    longest_rest_s: u64,
    answers: BTreeMap<u16, u64>,
    refused: Option<String>,
    for_a_person: BTreeMap<String, u64>,
    /// Points at which gateways were to die: at which occasion, and whether one did.
    points: BTreeMap<String, Vec<(String, bool)>>,
    /// The good merchant without its neighbour and beside it, where there is one.
    compared: Option<Compared>,
}

impl Results {
    /// One more run; its violations are printed at once.
    pub fn add(&mut self, seed: u64, outcome: Outcome, out: &mut dyn Write) -> io::Result<()> {
        self.runs += 1;
        let (sum, one) = (&mut self.figures, outcome.figures);
        sum.payments += one.payments;
        sum.payable += one.payable;
        sum.succeeded += one.succeeded;
        sum.captured_twice_kept += one.captured_twice_kept;
        sum.lost += one.lost;
        sum.unended += one.unended;
        sum.given_back += one.given_back;
        sum.forged += one.forged;
        sum.most_questions = sum.most_questions.max(one.most_questions);
        sum.most_questions_of_a_payment = sum
            .most_questions_of_a_payment
            .max(one.most_questions_of_a_payment);
        sum.ended_after_s = sum.ended_after_s.max(one.ended_after_s);

        if let Some((point, is_hit)) = &outcome.point {
            let (name, occasion) = point.split_once(':').unwrap_or((point, "1"));
            self.points
                .entry(name.to_owned())
                .or_default()
                .push((occasion.to_owned(), *is_hit));
        }

        outcome
            .for_a_person
            .iter()
            .for_each(|(kind, n)| *self.for_a_person.entry(kind.clone()).or_default() += n);
        self.kills += outcome.kills;
        outcome
            .answers
            .into_iter()
            .for_each(|(status, count)| *self.answers.entry(status).or_default() += count);
        self.refused = self.refused.take().or(outcome.refused);
        self.longest_rest_s = self.longest_rest_s.max(outcome.rested_after_s);
        self.waits_ms.extend(outcome.waits_ms);

        for violation in &outcome.violations {
            writeln!(
                out,
                "seed {seed}: {} broken by {}: {}",
                violation.rule, violation.subject, violation.found
            )?;
        }

        if let Some(trace) = outcome.trace {
            writeln!(out, "{trace}")?;
        }
        self.violations.extend(
            outcome
                .violations
                .into_iter()
                .map(|violation| (seed, violation)),
        );

        out.flush()
    }

    /// What a run's merchant had without its neighbour and beside it.
    pub fn compare(&mut self, compared: Compared) {
        self.compared.get_or_insert_default().add(compared);
    }

    /// One more run, which could not be carried out. What it would have shown nobody knows, so it
    /// counts as a violation; those that come after it go on.
    pub fn add_broken(&mut self, seed: u64, broken: &Error, out: &mut dyn Write) -> io::Result<()> {
        self.runs += 1;
        writeln!(out, "seed {seed}: could not be carried out: {broken}")?;
        let found = broken.to_string();
        self.violations.push((
            seed,
            Violation {
                rule: "is_carried_out",
                subject: "run".to_owned(),
                found,
            },
        ));
        out.flush()
    }

    /// For whoever waits: how far it has got.
    pub fn progress(&self, of: u64) -> String {
        let (f, violations) = (&self.figures, self.violations.len());
        format!(
            "{} of {of} runs, {} payments, {violations} violations",
            self.runs, f.payments
        )
    }

    /// Whether nothing was violated.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// The sums.
    pub fn print(&self, wanted: &Options, out: &mut dyn Write) -> io::Result<()> {
        let f = &self.figures;
        let mut by_rule: BTreeMap<&str, u32> = BTreeMap::new();
        for (_, violation) in &self.violations {
            *by_rule.entry(violation.rule).or_default() += 1;
        }
        writeln!(
            out,
            "\n{} runs, {} payments accepted, gateways died {} times; the last payment ended {} s \
            after everything was mended (bound: {ENDED_WITHIN_S}), all at rest after {} s of their \
            own time at the latest (bound: {REST_WITHIN_S})",
            self.runs, f.payments, self.kills, f.ended_after_s, self.longest_rest_s
        )?;

        writeln!(
            out,
            "{} forged messages answered; at most {} questions about one attempt, {} about one \
            payment",
            f.forged, f.most_questions, f.most_questions_of_a_payment
        )?;

        for point in kill::POINTS
            .iter()
            .filter_map(|point| self.points.get_key_value(*point))
        {
            let (name, mut occasions) = (point.0, point.1.clone());
            occasions.sort();
            let shown: Vec<String> = occasions
                .iter()
                .map(|(n, hit)| format!("{n} {}", if *hit { "hit" } else { "NOT HIT" }))
                .collect();
            writeln!(out, "  {name}: {}", shown.join(", "))?;
        }

        writeln!(
            out,
            "kept twice {}, lost {}, unended {}, given back {}; of {} payable payments {} \
            succeeded ({})",
            f.captured_twice_kept,
            f.lost,
            f.unended,
            f.given_back,
            f.payable,
            f.succeeded,
            percent(f.succeeded, f.payable)
        )?;

        if let Some(Compared { alone, beside }) = self.compared {
            writeln!(
                out,
                "the good merchant, each seed run twice: of payable payments succeeded {alone} \
                without the neighbour, {beside} beside it"
            )?;
        }

        writeln!(out, "waiting for a person: {:?}", self.for_a_person)?;
        writeln!(
            out,
            "answers to requests for payments, by status: {:?}",
            self.answers
        )?;

        if let Some(refused) = &self.refused {
            writeln!(out, "one of them was refused: {refused}")?;
        }
        match by_rule.is_empty() {
            true => writeln!(out, "0 violations")?,
            false => writeln!(out, "{} violations: {by_rule:?}", self.violations.len())?,
        }
        if wanted.json {
            writeln!(out, "{}", self.line(wanted))?;
        }

        Ok(())
    }

    /// The sums for programs.
    fn line(&self, wanted: &Options) -> Value {
        let f = &self.figures;
        let violations: Vec<_> = self
            .violations
            .iter()
            .take(100)
            .map(|(seed, v)| {
                json!({"seed": seed, "rule": v.rule, "subject": v.subject,
                "found": v.found})
            })
            .collect();

        json!({
            "scenario": wanted.scenario.name,
            "seeds": [wanted.seeds.start(), wanted.seeds.end()],
            "payments": f.payments,
            "captured_twice_kept": f.captured_twice_kept,
            "lost": f.lost,
            "unended": f.unended,
            "violations": violations,
            "success_rate": percent(f.succeeded, f.payable),
            "success_rate_without_neighbour": self.compared.map(|c| percent(c.alone.succeeded,
                c.alone.payable)),
            "p99_ms": self.p99_ms(),
            "kills": self.kills,
            "given_back": f.given_back,
            "ended_after_s": f.ended_after_s,
            "rested_after_s": self.longest_rest_s,
            "forged": f.forged,
            "for_a_person": self.for_a_person,
            "most_questions": f.most_questions,
            "most_questions_of_a_payment": f.most_questions_of_a_payment,
            "points_hit": self.points.values().flatten().filter(|(_, hit)| *hit).count(),
        })
    }

    fn p99_ms(&self) -> u64 {
        let mut waits = self.waits_ms.clone();
        waits.sort_unstable();
        let at = (waits.len() * 99 / 100).min(waits.len().saturating_sub(1));
        waits.get(at).copied().unwrap_or(0)
    }
}
