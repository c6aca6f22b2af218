//! What Alipay's codes say, in the words that all providers share. Codes are without prefixes and
//! in capitals, as `codes::bare` leaves them.

use crate::reason::{Reason, Reasons};

pub(super) const REASONS: Reasons = Reasons {
    all: &[
        (
            Reason::InsufficientFunds,
            &[
                "BUYER_BALANCE_NOT_ENOUGH",
                "BUYER_BANKCARD_BALANCE_NOT_ENOUGH",
            ],
        ),
        (
            Reason::AuthCodeInvalid,
            &["PAYMENT_AUTH_CODE_INVALID", "AUTH_TOKEN_IS_NOT_EXIST"],
        ),
        (
            Reason::BarcodeSwitchedOff,
            &["MOBILE_PAYMENT_SWITCH_OFF", "USER_FACE_PAYMENT_SWITCH_OFF"],
        ),
        (
            Reason::PayerLimitExceeded,
            &[
                "BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR",
                "BUYER_PAYMENT_AMOUNT_MONTH_LIMIT_ERROR",
                "PRODUCT_AMOUNT_LIMIT_ERROR",
            ],
        ),
        (
            Reason::PayerAccountRestricted,
            &[
                "BUYER_ENABLE_STATUS_FORBID",
                "BUYER_NOT_EXIST",
                "BUYER_ERROR",
            ],
        ),
        (
            Reason::PayerVerificationRequired,
            &[
                "ERROR_BUYER_CERTIFY_LEVEL_LIMIT",
                "NOT_CERTIFIED_USER",
                "BUYER_NOT_MAINLAND_CERT",
            ],
        ),
        (
            Reason::PayerMismatch,
            &[
                "PAYER_UNMATCHED",
                "USER_LOGONID_DUP",
                "CARD_USER_NOT_MATCH",
                "USER_NOT_MATCH_ERR",
            ],
        ),
        (Reason::PayerIsMerchant, &["BUYER_SELLER_EQUAL"]),
        (
            Reason::PaymentMethodUnsupported,
            &[
                "ERROR_BALANCE_PAYMENT_DISABLE",
                "NO_PAYMENT_INSTRUMENTS_AVAILABLE",
                "NOT_SUPPORT_PAYMENT_INST",
                "CARD_TYPE_ERROR",
                "BUYER_UNSUPPORT_ADVANCE",
                "ORDER_UNSUPPORT_ADVANCE",
            ],
        ),
        (Reason::PaymentMethodInvalid, &["CERT_EXPIRED"]),
        (Reason::RiskDeclined, &["PAYMENT_REQUEST_HAS_RISK"]),
        (
            Reason::Declined,
            &["PAYMENT_FAIL", "PULL_MOBILE_CASHIER_FAIL"],
        ),
        (Reason::AmountInvalid, &["AMOUNT_OR_CURRENCY_ERROR"]),
        (
            Reason::AmountLimitExceeded,
            &[
                "TOTAL_FEE_EXCEED",
                "REQUEST_AMOUNT_EXCEED",
                "BEYOND_PER_RECEIPT_RESTRICTION",
                "BEYOND_PER_RECEIPT_SINGLE_RESTRICTION",
                "MERCHANT_PERM_RECEIPT_SINGLE_LIMIT",
            ],
        ),
        (
            Reason::VolumeLimitExceeded,
            &[
                "BEYOND_PAY_RESTRICTION",
                "BEYOND_PER_RECEIPT_DAY_RESTRICTION",
                "MERCHANT_PERM_RECEIPT_DAY_LIMIT",
            ],
        ),
        (Reason::CurrencyNotSupported, &["CURRENCY_NOT_SUPPORT"]),
        (Reason::DescriptionRefused, &["EXIST_FORBIDDEN_WORD"]),
        (Reason::StoreRefused, &["INVALID_STORE_ID"]),
        (Reason::ClientIpRefused, &["RISK_MERCHANT_IP_NOT_EXIST"]),
        (
            Reason::ParameterRefused,
            &[
                "INVALID_PARAMETER",
                "SUB_GOODS_SIZE_MAX_COUNT",
                "INVALID-PARAMETER",
                "UPLOAD-FAIL",
                "INVALID-FILE-EXTENSION",
                "INVALID-FILE-SIZE",
                "SUSPECTED-ATTACK",
                "ILLEGAL-JSON",
            ],
        ),
        (
            Reason::ProductNotSupported,
            &[
                "UN_SUPPORT_TRADE_SCENE",
                "SMILE_PAY_MERCHANT_NOT_MATCH",
                "MERCHANT_UNSUPPORT_ADVANCE",
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
        // It says no more, and its own documents do not either.
        (Reason::Refused, &["APPLY_PC_MERCHANT_CODE_ERROR"]),
        (
            Reason::CredentialsInvalid,
            &[
                "PARTNER_ERROR",
                "MISSING-METHOD",
                "MISSING-SIGNATURE",
                "MISSING-SIGNATURE-TYPE",
                "MISSING-SIGNATURE-KEY",
                "MISSING-SIGNATURE-CONFIG",
                "MISSING-APP-ID",
                "MISSING-APP-CERT-SN",
                "MISSING-TIMESTAMP",
                "MISSING-VERSION",
                "DECRYPTION-ERROR-MISSING-ENCRYPT-TYPE",
                "DECRYPTION-ERROR-UNKNOWN",
                "INVALID-METHOD",
                "INVALID-FORMAT",
                "INVALID-SIGNATURE-TYPE",
                "INVALID-SIGNATURE",
                "INVALID-ENCRYPT-TYPE",
                "INVALID-ENCRYPT",
                "INVALID-APP-ID",
                "INVALID-CHARSET",
                "INVALID-DIGEST",
                "APP-CERT-EXPIRED",
            ],
        ),
        (
            Reason::PermissionMissing,
            &[
                "ACCESS_FORBIDDEN",
                "MERCHANT_AGREEMENT_NOT_EXIST",
                "MERCHANT_AGREEMENT_INVALID",
                "ENTERPRISE_PAY_BIZ_ERROR",
                "DEFAULT_SETTLE_RULE_NOT_EXIST",
                "PLATFORM_BUSINESS_ACQUIRE_MODE_MUST_MERCHANT_ID",
                "NOT-SUPPORT-APP-AUTH",
                "FORBIDDEN-API",
                "INVALID-AUTH-RELATIONS",
                "INVALID-AUTH-TOKEN",
                "AUTH-TOKEN-TIME-OUT",
                "INVALID-APP-AUTH-TOKEN",
                "INVALID-APP-AUTH-TOKEN-NO-API",
                "APP-AUTH-TOKEN-TIME-OUT",
                "NO-PRODUCT-REG-BY-PARTNER",
                "INSUFFICIENT-ISV-PERMISSIONS",
                "INSUFFICIENT-USER-PERMISSIONS",
                "SELF-INVOKE-FORBIDDEN",
                "IP-FORBIDDEN",
            ],
        ),
        (
            Reason::AccountRestricted,
            &[
                "SELLER_BEEN_BLOCKED",
                "MERCHANT_STATUS_NOT_NORMAL",
                "RESTRICTED_MERCHANT_INDUSTRY",
                "MERCHANT_PERM_RECEIPT_SUSPEND_LIMIT",
                "SECONDARY_MERCHANT_STATUS_ERROR",
                "SECONDARY_MERCHANT_ISV_PUNISH_INDIRECT",
            ],
        ),
        (
            Reason::AccountNotFound,
            &[
                "SELLER_NOT_EXIST",
                "INVALID_RECEIVE_ACCOUNT",
                "ROYALTY_ACCOUNT_NOT_EXIST",
            ],
        ),
        (
            Reason::AccountRefused,
            &[
                "SUB_MERCHANT_CREATE_FAIL",
                "SUB_MERCHANT_TYPE_INVALID",
                "SECONDARY_MERCHANT_ALIPAY_ACCOUNT_INVALID",
                "SECONDARY_MERCHANT_ID_INVALID",
                "SECONDARY_MERCHANT_ID_BLANK",
                "SECONDARY_MERCHANT_NOT_MATCH",
                "TRADE_SETTLE_ERROR",
            ],
        ),
        (
            Reason::RateLimited,
            &["APP-CALL-LIMITED", "METHOD-CALL-LIMITED"],
        ),
        (
            Reason::OutcomeUnknown,
            &["SYSTEM_ERROR", "PAYMENT_UNKNOW", "UNKNOW-ERROR"],
        ),
        (
            Reason::OrderNumberUsed,
            &[
                "TRADE_HAS_SUCCESS",
                "CONTEXT_INCONSISTENT",
                "TRADE_HAS_CLOSE",
                "TRADE_BUYER_NOT_MATCH",
            ],
        ),
        (
            Reason::ClockSkew,
            &["NOW_TIME_AFTER_EXPIRE_TIME_ERROR", "INVALID-TIMESTAMP"],
        ),
        (Reason::PaymentNotFound, &["TRADE_NOT_EXIST"]),
        (
            Reason::PaymentStateInvalid,
            &[
                "TRADE_STATUS_ERROR",
                "REASON_TRADE_STATUS_INVALID",
                "REASON_ILLEGAL_STATUS",
                "REASON_TRADE_BEEN_FREEZEN",
                "CANCEL_NOT_ALLOWED",
            ],
        ),
        (
            Reason::RefundPeriodOver,
            &["TRADE_HAS_FINISHED", "TRADE_CANCEL_TIME_OUT"],
        ),
        (
            Reason::RefundAmountExceeded,
            &["REASON_TRADE_REFUND_FEE_ERR", "REFUND_FEE_ERROR"],
        ),
        (
            Reason::PartialRefundNotAllowed,
            &["NOT_ALLOW_PARTIAL_REFUND", "REFUND_AMT_NOT_EQUAL_TOTAL"],
        ),
        (
            Reason::RefundNotAllowed,
            &[
                "TRADE_NOT_ALLOW_REFUND",
                "ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND",
                "ALLOC_AMOUNT_VALIDATE_ERROR",
                "REFUNDALLOC_UNAUTH_LIMIT",
                "OVERDRAFT_ASSIGN_ACCOUNT_INVALID",
                "OVERDRAFT_AGREEMENT_NOT_MATCH",
            ],
        ),
        (
            Reason::MerchantBalanceInsufficient,
            &["SELLER_BALANCE_NOT_ENOUGH"],
        ),
        (
            Reason::RefundRecipientUnavailable,
            &[
                "REFUND_ACCOUNT_NOT_EXIST",
                "REFUND_ROYALTY_PAYEE_ACCOUNT_NOT_EXIST",
            ],
        ),
        (Reason::RefundNumberUsed, &["DISCORDANT_REPEAT_REQUEST"]),
        (
            Reason::RefundRefused,
            &["REFUND_CHARGE_ERROR", "CUSTOMER_VALIDATE_ERROR"],
        ),
    ],
    refunds: &[
        // Closed, or all of it went back.
        (Reason::PaymentStateInvalid, &["TRADE_HAS_CLOSE"]),
        (
            Reason::RefundRecipientUnavailable,
            &[
                "BUYER_NOT_EXIST",
                "BUYER_ENABLE_STATUS_FORBID",
                "BUYER_ERROR",
                "USER_NOT_MATCH_ERR",
            ],
        ),
    ],
};
