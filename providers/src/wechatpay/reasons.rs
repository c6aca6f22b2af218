//! What WeChat Pay's codes say, in the words that all providers share: codes without underscores
//! and in capitals, the numbers of reasons behind a `Request-ID`, and the members that a `detail`
//! names.

use crate::reason::{Reason, Reasons};

pub(super) const REASONS: Reasons = Reasons {
    all: &[
        (Reason::InsufficientFunds, &["NOTENOUGH"]),
        (
            Reason::AuthCodeInvalid,
            &["AUTHCODEERROR", "AUTHCODEINVALID", "/payer/auth_code"],
        ),
        (Reason::AuthCodeExpired, &["AUTHCODEEXPIRE"]),
        (
            Reason::PayerAccountRestricted,
            &["ACCOUNTERROR", "USERACCOUNTABNORMAL"],
        ),
        (Reason::PayerMismatch, &["OPENIDMISMATCH"]),
        (Reason::PaymentMethodUnsupported, &["NOTSUPORTCARD"]),
        (Reason::AuthenticationRequired, &["USERPAYING"]),
        (Reason::AmountInvalid, &["/amount", "/amount/total"]),
        (Reason::CurrencyNotSupported, &["/amount/currency"]),
        (Reason::DescriptionRefused, &["/description"]),
        (
            Reason::StoreRefused,
            &[
                "/scene_info/store_info",
                "/scene_info/store_info/id",
                "/scene_info/store_info/name",
                "/scene_info/store_info/out_id",
            ],
        ),
        (Reason::TerminalRefused, &["/scene_info/device_id"]),
        (
            Reason::ClientIpRefused,
            &["/scene_info/payer_client_ip", "/scene_info/device_ip"],
        ),
        (Reason::ExpiryRefused, &["/time_expire"]),
        // Illegal, unknown, missing.
        (
            Reason::ParameterRefused,
            &[
                "268435461",
                "270924358",
                "268501013",
                "PARAMERROR",
                "INVALIDREQUEST",
                "LACKPARAMS",
                "XMLFORMATERROR",
                "REQUIREPOSTMETHOD",
                "NOTUTF8",
            ],
        ),
        // Out of range: an amount, as every text is fitted before it is sent.
        (Reason::AmountLimitExceeded, &["268435464"]),
        (Reason::VolumeLimitExceeded, &["RULELIMIT"]),
        (
            Reason::ProductNotSupported,
            &["RESOURCENOTEXISTS", "NOTFOUND"],
        ),
        (Reason::Refused, &["TRADEERROR"]),
        (
            Reason::CredentialsInvalid,
            &[
                "268443699",
                "268445527",
                "/appid",
                "/mchid",
                "SIGNERROR",
                "APPIDMCHIDNOTMATCH",
            ],
        ),
        // The last four: for partners only.
        (
            Reason::PermissionMissing,
            &["NOAUTH", "268443701", "268443704", "268443705", "268447845"],
        ),
        (Reason::AccountRestricted, &["268448010", "268443715"]),
        (
            Reason::AccountNotFound,
            &["MCHNOTEXISTS", "MCHIDNOTEXIST", "APPIDNOTEXIST"],
        ),
        (
            Reason::RateLimited,
            &[
                "268447840",
                "FREQUENCYLIMITED",
                "RATELIMITEXCEEDED",
                "RATELIMITEXCEED",
                "FREQLIMIT",
            ],
        ),
        (Reason::OutcomeUnknown, &["SYSTEMERROR", "BANKERROR"]),
        (Reason::ProviderUnavailable, &["SERVICEUNAVAILABLE"]),
        (
            Reason::OrderNumberUsed,
            &[
                "268498688",
                "268449538",
                "268498689",
                "268447914",
                "268449641",
                "268447843",
                "ORDERPAID",
                "ORDERCLOSED",
                "ORDERREVERSED",
                "OUTTRADENOUSED",
                "BUYERMISMATCH",
            ],
        ),
        (
            Reason::PaymentNotFound,
            &["268512771", "ORDERNOTEXIST", "INVALIDTRANSACTIONID"],
        ),
        (Reason::RefundPeriodOver, &["REVERSEEXPIRE"]),
        // The state of a refund.
        (Reason::RefundRefused, &["CLOSED"]),
        (Reason::RefundRecipientUnavailable, &["ABNORMAL"]),
    ],
    refunds: &[
        (Reason::MerchantBalanceInsufficient, &["NOTENOUGH"]),
        (Reason::RefundRecipientUnavailable, &["USERACCOUNTABNORMAL"]),
        // There is none, or it is not paid.
        (Reason::PaymentNotFound, &["RESOURCENOTEXISTS"]),
        (Reason::RefundNumberUsed, &["268498688"]),
        (
            Reason::RefundAmountExceeded,
            &["/amount", "/amount/refund", "/amount/total"],
        ),
        // Too much, too many, not paid, closed: which of them only its words tell.
        (
            Reason::RefundRefused,
            &["268435461", "268435464", "INVALIDREQUEST"],
        ),
        (
            Reason::PaymentStateInvalid,
            &["268449538", "268498689", "268447914"],
        ),
    ],
};
