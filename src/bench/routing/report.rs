//! How the figures are printed: for people, and as one line for programs.
#![expect(clippy::float_arithmetic, reason = "statistics; no money moves here")]

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::measure::Line;
use super::plan::{Plan, RATES, STRATEGIES, Trips};

/// What is played and what the figures mean.
pub fn explain(plan: Plan, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "interlock bench routing: {} worlds of {} minutes, seed {}

Each world has three providers with success rates that drift, an outage of each (half of them refuse connections,
half of them leave calls without an answer), a brown-out of each (10 to 50 % of the calls fail, the others are up to
four times as slow), and payers of whom 5 % decline. A payment tries up to three routes. The first part of a world
(5 minutes, at most a quarter) warms up and is not counted.

first try  payments whose first call was answered (a payer's \"no\" is an answer), in percent
served     payments that one of their calls was answered for, in percent
gap        how far the true success rate of the route tried first was below that of the best route at that moment,
           which only an oracle knows; the mean over all payments, in percentage points
wasted     calls begun on a dead route, first tries and others, per outage of a route that had at least half of the
           strategy's payments in the minute before; `bound` is k + rate x (suspicion time + 0.2 s) of `adaptive`
shift      seconds from such an outage on until under 10 % of the next 20 payments try the dead route first;
           mean (worst)
return     seconds from its end on until the next payments (5 s of them, at least 20) give the route half of its
           share again, where it was the best route before and is so for the minute after; mean (worst)
",
        plan.worlds, plan.minutes, plan.seed
    )
}

/// All strategies at all rates.
pub fn table(lines: &[Line], out: &mut dyn Write) -> io::Result<()> {
    for rate in RATES {
        writeln!(out, "{rate} payments/s")?;
        writeln!(
            out,
            "  {:10} {:>9} {:>9} {:>8} {:>8} {:>7} {:>16} {:>16} {:>9}",
            "strategy",
            "first try",
            "served",
            "gap pp",
            "wasted",
            "bound",
            "shift s",
            "return s",
            "outages"
        )?;
        for line in lines.iter().filter(|line| line.rate == rate) {
            let m = &line.measured;
            let seconds = |mean: Option<f64>, worst: f64| {
                mean.map_or_else(|| "-".to_owned(), |mean| format!("{mean:.2} ({worst:.2})"))
            };
            writeln!(
                out,
                "  {:10} {:>9.3} {:>9.3} {:>8.3} {:>8} {:>7.1} {:>16} {:>16} {:>9}",
                line.strategy,
                m.success,
                m.served,
                m.gap_pp,
                m.wasted
                    .map_or_else(|| "-".to_owned(), |wasted| format!("{wasted:.1}")),
                m.wasted_bound,
                seconds(m.shift_s, m.shift_worst_s),
                seconds(m.return_s, m.return_worst_s),
                format!("{}/{}", m.outages, m.returns),
            )?;
        }
        writeln!(out)?;
    }

    Ok(())
}

/// Trips of a provider that flaps.
pub fn flapping(trips: &[Trips], out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "flapping: the best provider is up for 3 s and down for 3 s, for 5 minutes; `adaptive`"
    )?;
    print(trips, out)
}

/// Trips of providers that work.
pub fn healthy(trips: &[Trips], out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "healthy: nothing breaks, 0.5 % of the calls fail and 5 % of the payers decline; all \
        routes in turn"
    )?;
    print(trips, out)
}

fn print(trips: &[Trips], out: &mut dyn Write) -> io::Result<()> {
    for Trips {
        rate,
        worlds,
        most,
        all,
    } in trips
    {
        writeln!(
            out,
            "  {rate:>3} payments/s: {most} trips at most in one of {worlds} worlds, {all} in all"
        )?;
    }
    writeln!(out)
}

/// `{STRATEGY: {RATE: {…}}}` on one line. A figure that there was no occasion for is null.
pub fn json(lines: &[Line], out: &mut dyn Write) -> io::Result<()> {
    let mut all = Map::new();
    for strategy in STRATEGIES {
        let of_it = lines.iter().filter(|line| line.strategy == strategy);
        let rates: Map<String, Value> = of_it
            .map(|line| {
                let m = &line.measured;
                let figures = json!({
                    "success": short(m.success),
                    "gap_pp": short(m.gap_pp),
                    "wasted_per_outage": m.wasted.map(short),
                    "wasted_bound": short(m.wasted_bound),
                    "shift_s": m.shift_s.map(short),
                    "return_s": m.return_s.map(short),
                });
                (line.rate.to_string(), figures)
            })
            .collect();
        all.insert(strategy.to_owned(), Value::Object(rates));
    }

    writeln!(out, "{}", Value::Object(all))
}

fn short(figure: f64) -> f64 {
    (figure * 10_000.0).round() / 10_000.0
}
