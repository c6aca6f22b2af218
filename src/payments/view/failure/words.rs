//! The words of each reason: what happened and what to do, in English and Chinese. A reason without
//! words does not compile.

use providers::reason::Reason;

/// What is said of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// The member of the request that has to be another one.
    pub param: Option<&'static str>,
    /// What happened and what to do, in English.
    pub en: &'static str,
    /// The same in Chinese.
    pub zh: &'static str,
}

const fn say(en: &'static str, zh: &'static str) -> Words {
    Words {
        param: None,
        en,
        zh,
    }
}

const fn change(param: &'static str, en: &'static str, zh: &'static str) -> Words {
    Words {
        param: Some(param),
        en,
        zh,
    }
}

/// The words of a reason.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a table, a row a reason")]
pub const fn words(reason: Reason) -> Words {
    match reason {
        Reason::InsufficientFunds => say(
            "The payer has not enough money there. Another account or way to pay may do.",
            "付款方余额不足，请换一个账户或支付方式。",
        ),
        Reason::AuthCodeInvalid => change(
            "auth_code",
            "The payment code is not valid. Scan the code that the payer's wallet shows now.",
            "付款码无效，请扫描付款方钱包当前显示的付款码。",
        ),
        Reason::AuthCodeExpired => change(
            "auth_code",
            "The payment code is too old or was used. Have the payer refresh it, and scan it \
            again.",
            "付款码已过期或已使用，请付款方刷新后重新扫码。",
        ),
        Reason::BarcodeSwitchedOff => say(
            "The payer has switched off paying by a shown code. It can be switched on in the \
            wallet.",
            "付款方已关闭付款码支付，可在钱包中开启后重试。",
        ),
        Reason::PayerLimitExceeded => change(
            "amount",
            "The amount is over the payer's own limit. A smaller one or another way to pay may do.",
            "金额超过付款方的限额，请减小金额或换一种支付方式。",
        ),
        Reason::PayerAccountRestricted => say(
            "The payer's account cannot pay: it is frozen, closed or not there. Another way to pay \
            may do.",
            "付款方账户无法付款（已冻结、已注销或不存在），请换一种支付方式。",
        ),
        Reason::PayerVerificationRequired => say(
            "The payer has to verify his identity in the wallet first.",
            "付款方需要先在钱包中完成身份认证。",
        ),
        Reason::PayerMismatch => say(
            "Payer, account and card do not belong together. Another way to pay may do.",
            "付款方与账户或银行卡不匹配，请换一种支付方式。",
        ),
        Reason::PayerIsMerchant => say(
            "Payer and merchant are the same account. Somebody else has to pay.",
            "付款方与收款方是同一账户，请由其他人付款。",
        ),
        Reason::PaymentMethodUnsupported => say(
            "The payer's card or kind of balance is not taken for this payment. Another one may \
            do.",
            "付款方的银行卡或余额类型不支持本次支付，请换一种。",
        ),
        Reason::PaymentMethodInvalid => say(
            "The payer's card is wrong, expired or blocked. Another one may do.",
            "付款方的银行卡有误、已过期或状态异常，请换一张卡。",
        ),
        Reason::AuthenticationRequired => say(
            "The payer has to enter a password.",
            "需要付款方输入支付密码。",
        ),
        Reason::AuthenticationFailed => say(
            "What the payer entered is wrong: a password, a code or a card's dates. The payer can \
            try again.",
            "付款方输入的密码、验证码或银行卡信息有误，可以重试。",
        ),
        Reason::PinTriesExceeded => say(
            "The payer has entered too many wrong passwords. Another way to pay may do.",
            "付款方密码输入错误次数过多，请换一种支付方式。",
        ),
        Reason::RiskDeclined => say(
            "The provider's risk control declines this payment. Another way to pay may do.",
            "支付渠道的风险控制拒绝了本次支付，请换一种支付方式。",
        ),
        Reason::NotConfirmed => say(
            "The payer did not confirm in time. Make a new payment.",
            "付款方未在规定时间内确认，请重新发起支付。",
        ),
        Reason::PromotionNotMet => say(
            "The conditions of the payer's promotion are not met. It can be paid without it.",
            "不满足优惠活动的条件，可不使用优惠重新付款。",
        ),
        Reason::Declined => say(
            "The payer cannot pay this way.",
            "付款方无法用这种方式付款。",
        ),
        Reason::AmountInvalid => change(
            "amount",
            "The provider does not take this amount.",
            "支付渠道不接受该金额。",
        ),
        Reason::AmountLimitExceeded => change(
            "amount",
            "The amount is over the limit of one payment on this account. Ask for less, or have \
            the limit raised.",
            "金额超过该账户的单笔限额，请减小金额或提高限额。",
        ),
        Reason::VolumeLimitExceeded => change(
            "amount",
            "The account has reached its limit of the day or of its contract. It takes more once \
            that is raised or new.",
            "该账户已达到当日或合约的收款限额，限额恢复或提高后可继续收款。",
        ),
        Reason::CurrencyNotSupported => change(
            "currency",
            "The provider does not take this currency on this account.",
            "该账户不支持此币种。",
        ),
        Reason::DescriptionRefused => change(
            "description",
            "The provider refuses a word in the description. Use other words.",
            "商品描述中含有支付渠道不允许的内容，请修改描述。",
        ),
        Reason::StoreRefused => change(
            "store",
            "The provider does not know this store. Give the number that it has there.",
            "支付渠道不认可该门店，请填写在渠道登记的门店编号。",
        ),
        Reason::TerminalRefused => change(
            "store.terminal_id",
            "The provider does not take this number of a till.",
            "支付渠道不接受该终端编号。",
        ),
        Reason::ClientIpRefused => change(
            "payer.client_ip",
            "The provider needs the payer's own address.",
            "支付渠道需要付款方的真实 IP 地址。",
        ),
        Reason::ExpiryRefused => change(
            "expires_in",
            "The provider does not take this time to pay. Give another one.",
            "支付渠道不接受该支付有效期，请修改。",
        ),
        Reason::ParameterRefused => say(
            "The provider refuses something in the request that is not one member alone. The \
            account's operator sees what.",
            "支付渠道拒绝了请求中的参数，账户的运维人员可以看到具体原因。",
        ),
        Reason::ProductNotSupported => change(
            "flow",
            "This account does not offer this way to pay. Sign the product with the provider, or \
            use another flow or account.",
            "该账户未开通这种支付方式，请向支付渠道开通，或使用其他方式或账户。",
        ),
        Reason::Refused => say(
            "The provider refuses this request.",
            "支付渠道拒绝了此请求。",
        ),
        Reason::CredentialsInvalid => say(
            "The account's keys, certificates or numbers do not fit what the provider has. Enter \
            them anew.",
            "该账户的密钥、证书或编号与支付渠道登记的不一致，请重新填写。",
        ),
        Reason::PermissionMissing => say(
            "The account is not allowed to do this. Sign or grant it with the provider.",
            "该账户没有此项权限，请向支付渠道签约或授权。",
        ),
        Reason::AccountRestricted => say(
            "The provider has limited, frozen or closed this account. Ask the provider.",
            "该账户已被支付渠道限制、冻结或关闭，请联系支付渠道。",
        ),
        Reason::AccountNotFound => say(
            "The provider knows no account with these numbers. Compare them with its console.",
            "支付渠道查无此账户，请与渠道后台的编号核对。",
        ),
        Reason::AccountRefused => say(
            "The provider refuses this account.",
            "支付渠道拒绝了该账户。",
        ),
        Reason::AccountUnavailable => say(
            "The account cannot be used from here: look at its address and its credentials.",
            "该账户目前无法使用，请检查其地址和凭据。",
        ),
        Reason::RateLimited => say(
            "The provider asks for fewer requests.",
            "支付渠道要求降低请求频率。",
        ),
        Reason::ProviderUnavailable => say("The provider is in trouble.", "支付渠道出现故障。"),
        Reason::OutsideServiceHours => say(
            "It is outside of the provider's hours for this. It works later.",
            "不在支付渠道的服务时间内，请稍后再试。",
        ),
        Reason::ProviderUnreachable => {
            say("The provider could not be reached.", "无法连接支付渠道。")
        }
        Reason::ProviderTimeout => say(
            "The provider did not answer in time.",
            "支付渠道未及时应答。",
        ),
        Reason::AnswerUnreadable => say(
            "The provider's answer could not be verified or read.",
            "支付渠道的应答无法验证或无法识别。",
        ),
        Reason::OutcomeUnknown => say(
            "The provider does not know the outcome yet. It is asked again by itself.",
            "支付渠道尚不清楚结果，系统会自动继续查询。",
        ),
        Reason::OrderNumberUsed => say(
            "The provider has an order under this number already. What became of it is asked.",
            "支付渠道已有相同编号的订单，正在查询其结果。",
        ),
        Reason::ClockSkew => say(
            "This gateway's clock and the provider's differ. Its operator has to set the clock.",
            "本系统与支付渠道的时钟不一致，需要运维人员校准时间。",
        ),
        Reason::NoRoute => say(
            "None of the accounts that serve this payment can take it now.",
            "目前没有可以处理此支付的账户。",
        ),
        Reason::Throttled => say(
            "As many calls as allowed are on their way to this account. Try again shortly.",
            "该账户的并发请求已达上限，请稍后重试。",
        ),
        Reason::Interrupted => say(
            "It was interrupted here before it was sent or answered. Make a new payment.",
            "请求在发出或得到应答之前被中断，请重新发起支付。",
        ),
        Reason::NoCapacity => say(
            "This gateway has no room for another call at the moment. Try again shortly.",
            "本系统暂时没有余力处理此请求，请稍后重试。",
        ),
        Reason::RefundAmountExceeded => change(
            "amount",
            "The amount is more than is left of the payment. Refund at most the rest.",
            "退款金额超过支付的剩余可退金额，请减小退款金额。",
        ),
        Reason::RefundPeriodOver => say(
            "The payment is too old to be refunded by its provider. Give the money back in another \
            way.",
            "该支付已超过支付渠道的退款期限，请用其他方式退还款项。",
        ),
        Reason::PartialRefundNotAllowed => change(
            "amount",
            "Only the whole of this payment can be refunded. Give its whole amount.",
            "该支付只能全额退款，请填写全部金额。",
        ),
        Reason::RefundNotAllowed => say(
            "The provider does not refund this payment. Give the money back in another way.",
            "支付渠道不支持该支付退款，请用其他方式退还款项。",
        ),
        Reason::AlreadyRefunded => say(
            "The payment was refunded or undone before.",
            "该支付此前已退款或已撤销。",
        ),
        Reason::MerchantBalanceInsufficient => say(
            "The balance at the provider is too small. Top it up; the refund goes on by itself.",
            "在支付渠道的余额不足，充值后退款会自动继续。",
        ),
        Reason::RefundRecipientUnavailable => say(
            "The payer's account or card cannot take the money. Give it back in another way, in \
            the provider's console.",
            "付款方的账户或银行卡无法收款，请在支付渠道后台用其他方式退还。",
        ),
        Reason::PaymentNotFound => say("The provider has no such payment.", "支付渠道查无此支付。"),
        Reason::PaymentStateInvalid => say(
            "The payment is in a state at its provider in which this cannot be done.",
            "该支付在支付渠道的当前状态不允许此操作。",
        ),
        Reason::RefundNumberUsed => say(
            "The provider has another refund under this number. What became of it is asked.",
            "支付渠道已有相同编号的退款，正在查询其结果。",
        ),
        Reason::RefundRefused => change(
            "amount",
            "The provider refuses this refund: look at what is left of the payment, its age, and \
            how many refunds it has had.",
            "支付渠道拒绝了此退款，请检查剩余可退金额、支付时间和已退款次数。",
        ),
    }
}
