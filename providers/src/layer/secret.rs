//! What providers say may repeat the code that is read off a payer's phone.

use crate::outcome::{Answer, CreateOutcome};

/// A shorter part of a code is of no use to anybody.
const SHORTEST_PART: usize = 6;

/// Strikes out of what a provider said what may not be told: some repeat the request that they
/// refuse, and in it the code that is read off a payer's phone, which pays for whoever has it. It
/// may be cut off in the middle.
pub(super) fn struck_out(
    mut answer: Answer<CreateOutcome>,
    code: Option<&str>,
) -> Answer<CreateOutcome> {
    let failure = match &mut answer.outcome {
        CreateOutcome::NotSent(failure)
        | CreateOutcome::Refused(_, failure)
        | CreateOutcome::Declined(failure)
        | CreateOutcome::Unknown(failure) => failure,
        CreateOutcome::Accepted(_) | CreateOutcome::Captured(_) | CreateOutcome::Waiting => {
            return answer;
        }
    };
    let Some(code) = code else { return answer };

    for part in (SHORTEST_PART..=code.len()).rev() {
        let ends = [
            code.get(..part),
            code.get(code.len().saturating_sub(part)..),
        ];
        for text in ends.into_iter().flatten() {
            failure.message = failure.message.replace(text, "…");
            failure.code = failure.code.replace(text, "…");
        }
    }

    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Failure, FailureKind, Refusal};

    #[test]
    fn a_code_that_a_provider_repeats_is_struck_out_whole_or_in_part() {
        for said in [
            r#"signed: {"auth_code":"280000123456789012","subject":"tea"}"#,
            "…th_code=280000123456",
            "56789012&biz=1",
        ] {
            let failure = Failure::new(FailureKind::Account, "isv.invalid-signature", said);
            let told = struck_out(
                Answer::new(CreateOutcome::Refused(Refusal::Account, failure)),
                Some("280000123456789012"),
            );
            let CreateOutcome::Refused(_, failure) = told.outcome else {
                panic!("{told:?}")
            };
            assert!(
                !failure.message.contains("280000") && !failure.message.contains("789012"),
                "{}",
                failure.message
            );
        }
    }
}
