//! `kill -9` at every kill point: whatever the gateway was doing, the next one finds it in the rows
//! and brings it to its true end, with and without the client's help, and no money is kept twice.

mod audit;
mod held_up;
mod many;
mod scenarios;
mod stage;

/// One test for each kill point and each scenario that passes it:
/// `crash::pay_after_call::switching`.
macro_rules! a_gateway_is_killed_at {
    ($($point:ident while $($scenario:ident),+;)+) => {
        const COVERED: &[&str] = &[$(stringify!($point)),+];
        $(mod $point {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::scenarios::$scenario(stringify!($point)).await;
            })+
        })+
    };
}

a_gateway_is_killed_at! {
    pay_before_first_commit while creating, charging;
    pay_after_first_commit while creating, charging;
    pay_after_call while creating, charging, switching, finishing_what_a_crash_left;
    pay_after_switch_commit while switching;
    pay_after_outcome_commit while creating, charging, switching, paying_while_nobody_runs;
    pay_after_answer while answering_a_till;
    offer_after_commit while asking_for_another_offer;
    notify_before_commit while being_told_of_money;
    notify_after_commit while being_told_of_money;
    resolve_after_claim while canceling, canceling_too_late, expiring, finishing_what_a_crash_left;
    resolve_after_query while canceling, canceling_too_late, expiring;
    resolve_after_close while canceling, canceling_too_late, expiring;
    resolve_after_commit while canceling, canceling_too_late, expiring, finishing_what_a_crash_left;
    charge_after_query while reversing;
    reverse_after_plan_commit while reversing;
    reverse_after_call while reversing;
    cancel_after_commit while canceling, canceling_too_late;
    refund_before_first_commit while refunding;
    refund_after_first_commit while refunding;
    refund_after_call while refunding, sending_a_refund_again;
    refund_after_outcome_commit while refunding;
    refund_after_answer while refunding;
    refund_after_query while sending_a_refund_again;
    give_back_after_commit while giving_back_what_came_twice;
    webhook_before_fan_out_commit while telling;
    webhook_after_fan_out_commit while telling;
    webhook_after_claim while telling;
    webhook_after_call while telling;
    webhook_after_record while telling;
    ledger_after_seal while sealing;
}

#[test]
fn every_kill_point_has_a_scenario() {
    assert_eq!(COVERED, interlock::testing::kill::POINTS);
}
