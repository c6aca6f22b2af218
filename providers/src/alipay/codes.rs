//! The codes that the open platform's reference names, grouped by what they say. A code that is not
//! here is not guessed at: `outcome.rs` makes it unknown.

use crate::outcome::Refusal;

/// A `sub_code` without the prefixes that come and go (`aop.ACQ.`, the misspelt `AQC.`, `isv.`), in
/// capitals.
pub(super) fn bare(sub_code: &str) -> String {
    let mut code = sub_code.to_ascii_uppercase();
    while let Some(rest) = ["AOP.", "ISP.", "ISV.", "ACQ.", "AQC."]
        .iter()
        .find_map(|prefix| code.strip_prefix(prefix))
    {
        code = rest.to_owned();
    }
    code
}

/// The gateway's own refusals: said before the call is executed, so it moved nothing. They may come
/// unsigned (`isv.invalid-app-id` was seen so), hence a closed list. `None` for everything else,
/// 20000 included.
pub(super) fn gateway(code: &str, sub_code: &str) -> Option<Refusal> {
    match (code, sub_code) {
        ("40005", "APP-CALL-LIMITED" | "METHOD-CALL-LIMITED") => Some(Refusal::Provider),
        // Two clocks differ, which is no account's trouble and no order's: as if the provider were
        // out until that is mended.
        ("40001" | "40002", "INVALID-TIMESTAMP") => Some(Refusal::Provider),
        (
            "40002",
            "INVALID-PARAMETER"
            | "UPLOAD-FAIL"
            | "INVALID-FILE-EXTENSION"
            | "INVALID-FILE-SIZE"
            | "SUSPECTED-ATTACK"
            | "ILLEGAL-JSON",
        ) => Some(Refusal::Route),
        ("40002", "NOT-SUPPORT-APP-AUTH" | "FORBIDDEN-API" | "APP-CERT-EXPIRED")
        | ("40003", "INVALID-AUTH-RELATIONS" | "MISSING-SIGNATURE-CONFIG")
        | (
            "20001",
            "INVALID-AUTH-TOKEN"
            | "AUTH-TOKEN-TIME-OUT"
            | "INVALID-APP-AUTH-TOKEN"
            | "INVALID-APP-AUTH-TOKEN-NO-API"
            | "APP-AUTH-TOKEN-TIME-OUT"
            | "NO-PRODUCT-REG-BY-PARTNER",
        )
        | (
            "40006",
            "INSUFFICIENT-ISV-PERMISSIONS"
            | "INSUFFICIENT-USER-PERMISSIONS"
            | "SELF-INVOKE-FORBIDDEN"
            | "IP-FORBIDDEN",
        ) => Some(Refusal::Account),
        // These families are open in the reference; they are about the frame of a request, not its
        // content.
        ("40001" | "40002", family)
            if ["MISSING-", "INVALID-", "DECRYPTION-ERROR-"]
                .iter()
                .any(|prefix| family.starts_with(prefix)) =>
        {
            Some(Refusal::Account)
        }
        _ => None,
    }
}

/// The classes into which the reference's codes of paying and precreating fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Alipay does not know itself.
    Unknown,
    /// A trade with this number exists, in some state.
    Exists,
    /// No, because of the payer.
    Payer,
    /// No, because two clocks differ.
    Clock,
    /// No, because of what we asked for over this route: a limit, a word, a store, a product.
    /// Another may take it.
    Route,
    /// No, because of the merchant's contract.
    Account,
    /// Not documented for this call.
    Unlisted,
}

/// The class of a code of `alipay.trade.precreate`: those of paying, and two of its own.
pub(super) fn precreate_class(code: &str) -> Class {
    match code {
        // Alipay gave no code: the number was used before, or the product is not signed. The
        // documents do not say which.
        "APPLY_PC_MERCHANT_CODE_ERROR" => Class::Route,
        "DEFAULT_SETTLE_RULE_NOT_EXIST" => Class::Account,
        code => pay_class(code),
    }
}

/// The class of a code of `alipay.trade.pay`.
pub(super) fn pay_class(code: &str) -> Class {
    PAY.iter()
        .find(|(_, codes)| codes.contains(&code))
        .map_or(Class::Unlisted, |(class, _)| *class)
}

/// The 95 codes of the reference, and one of older editions (`PAYMENT_UNKNOW`).
const PAY: &[(Class, &[&str])] = &[
    (Class::Unknown, &["SYSTEM_ERROR", "PAYMENT_UNKNOW"]),
    (Class::Clock, &["NOW_TIME_AFTER_EXPIRE_TIME_ERROR"]),
    (
        Class::Exists,
        &[
            "TRADE_HAS_SUCCESS",
            "CONTEXT_INCONSISTENT",
            "TRADE_HAS_CLOSE",
            "TRADE_BUYER_NOT_MATCH",
            "TRADE_STATUS_ERROR",
        ],
    ),
    (
        Class::Payer,
        &[
            "PAYMENT_AUTH_CODE_INVALID",
            "PAYMENT_FAIL",
            "BUYER_BALANCE_NOT_ENOUGH",
            "BUYER_BANKCARD_BALANCE_NOT_ENOUGH",
            "ERROR_BALANCE_PAYMENT_DISABLE",
            "BUYER_SELLER_EQUAL",
            "BUYER_ENABLE_STATUS_FORBID",
            "PULL_MOBILE_CASHIER_FAIL",
            "MOBILE_PAYMENT_SWITCH_OFF",
            "USER_FACE_PAYMENT_SWITCH_OFF",
            "BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR",
            "BUYER_PAYMENT_AMOUNT_MONTH_LIMIT_ERROR",
            "ERROR_BUYER_CERTIFY_LEVEL_LIMIT",
            "PAYMENT_REQUEST_HAS_RISK",
            "NO_PAYMENT_INSTRUMENTS_AVAILABLE",
            "NOT_SUPPORT_PAYMENT_INST",
            "NOT_CERTIFIED_USER",
            "BUYER_NOT_MAINLAND_CERT",
            "BUYER_NOT_EXIST",
            "PAYER_UNMATCHED",
            "USER_LOGONID_DUP",
            "CARD_USER_NOT_MATCH",
            "CARD_TYPE_ERROR",
            "CERT_EXPIRED",
            "BUYER_UNSUPPORT_ADVANCE",
            "ORDER_UNSUPPORT_ADVANCE",
            "PRODUCT_AMOUNT_LIMIT_ERROR",
        ],
    ),
    (
        Class::Route,
        &[
            // The order.
            "INVALID_PARAMETER",
            "EXIST_FORBIDDEN_WORD",
            "TOTAL_FEE_EXCEED",
            "AMOUNT_OR_CURRENCY_ERROR",
            "CURRENCY_NOT_SUPPORT",
            "INVALID_STORE_ID",
            "SUB_GOODS_SIZE_MAX_COUNT",
            "RISK_MERCHANT_IP_NOT_EXIST",
            "UN_SUPPORT_TRADE_SCENE",
            "REQUEST_AMOUNT_EXCEED",
            "AUTH_TOKEN_IS_NOT_EXIST",
            "SMILE_PAY_MERCHANT_NOT_MATCH",
            // Limits of the merchant's.
            "MERCHANT_UNSUPPORT_ADVANCE",
            "BEYOND_PAY_RESTRICTION",
            "BEYOND_PER_RECEIPT_RESTRICTION",
            "BEYOND_PER_RECEIPT_SINGLE_RESTRICTION",
            "BEYOND_PER_RECEIPT_DAY_RESTRICTION",
            "MERCHANT_PERM_RECEIPT_SINGLE_LIMIT",
            "MERCHANT_PERM_RECEIPT_DAY_LIMIT",
            // Agreements, pre-authorisations and deductions: products that we do not use.
            "AGREEMENT_NOT_EXIST",
            "AGREEMENT_INVALID",
            "AGREEMENT_STATUS_NOT_NORMAL",
            "AGREEMENT_ERROR",
            "CYCLE_PAY_DATE_NOT_MATCH",
            "CYCLE_PAY_SINGLE_FEE_EXCEED",
            "CYCLE_PAY_TOTAL_FEE_EXCEED",
            "CYCLE_PAY_TOTAL_TIMES_EXCEED",
            "AUTH_NO_ERROR",
            "AUTH_AMOUNT_NOT_ENOUGH",
            "AUTH_ORDER_NOT_PAID",
            "AUTH_ORDER_HAS_FINISHED",
            "AUTH_ORDER_HAS_CLOSED",
            "PRE_AUTH_PROD_CODE_INCONSISTENT",
            "ZM_AUTH_AMOUNT_EXCEED",
            "ZM_CREDIT_AUTH_FAIL",
            "ZM_AUTH_RULE_LIMIT",
            "OVER_MAX_DEDUCT_COUNT",
            "OVER_MAX_UNDER_WAY_DEDUCT_COUNT",
            "OVER_DEDUCT_PERIOD",
            "OVER_MERCHANT_DAILY_DEDUCT_AMOUNT",
        ],
    ),
    (
        Class::Account,
        &[
            // The merchant.
            "PARTNER_ERROR",
            "ACCESS_FORBIDDEN",
            "SELLER_BEEN_BLOCKED",
            "SELLER_NOT_EXIST",
            "INVALID_RECEIVE_ACCOUNT",
            "MERCHANT_STATUS_NOT_NORMAL",
            "MERCHANT_AGREEMENT_NOT_EXIST",
            "MERCHANT_AGREEMENT_INVALID",
            "RESTRICTED_MERCHANT_INDUSTRY",
            "MERCHANT_PERM_RECEIPT_SUSPEND_LIMIT",
            // Second-level merchants and royalties.
            "SUB_MERCHANT_CREATE_FAIL",
            "SUB_MERCHANT_TYPE_INVALID",
            "SECONDARY_MERCHANT_STATUS_ERROR",
            "SECONDARY_MERCHANT_ALIPAY_ACCOUNT_INVALID",
            "SECONDARY_MERCHANT_ID_INVALID",
            "SECONDARY_MERCHANT_ID_BLANK",
            "SECONDARY_MERCHANT_NOT_MATCH",
            "SECONDARY_MERCHANT_ISV_PUNISH_INDIRECT",
            "PLATFORM_BUSINESS_ACQUIRE_MODE_MUST_MERCHANT_ID",
            "TRADE_SETTLE_ERROR",
            "ROYALTY_ACCOUNT_NOT_EXIST",
        ],
    ),
];

/// Codes of `alipay.trade.refund` under which this refund never succeeds.
pub(super) const REFUSED_REFUNDS: &[&str] = &[
    "ALLOC_AMOUNT_VALIDATE_ERROR",
    "BUYER_ENABLE_STATUS_FORBID",
    "BUYER_ERROR",
    "BUYER_NOT_EXIST",
    "CURRENCY_NOT_SUPPORT",
    "CUSTOMER_VALIDATE_ERROR",
    "ENTERPRISE_PAY_BIZ_ERROR",
    "INVALID_PARAMETER",
    "NOT_ALLOW_PARTIAL_REFUND",
    "ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND",
    "OVERDRAFT_AGREEMENT_NOT_MATCH",
    "OVERDRAFT_ASSIGN_ACCOUNT_INVALID",
    "REASON_TRADE_BEEN_FREEZEN",
    "REASON_TRADE_REFUND_FEE_ERR",
    "REASON_TRADE_STATUS_INVALID",
    "REFUNDALLOC_UNAUTH_LIMIT",
    "REFUND_ACCOUNT_NOT_EXIST",
    "REFUND_AMT_NOT_EQUAL_TOTAL",
    "REFUND_CHARGE_ERROR",
    "REFUND_FEE_ERROR",
    "REFUND_ROYALTY_PAYEE_ACCOUNT_NOT_EXIST",
    "TRADE_HAS_CLOSE",
    "TRADE_HAS_FINISHED",
    "TRADE_NOT_ALLOW_REFUND",
    "TRADE_NOT_EXIST",
    "TRADE_SETTLE_ERROR",
    "TRADE_STATUS_ERROR",
    "USER_NOT_MATCH_ERR",
];
