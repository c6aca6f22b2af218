"""Makes, reads and refunds a payment with a client that was made from /openapi.json: client.py BASE KEY CONTROL"""

import json
import sys
import time
import urllib.request
import uuid

from interlock_client import AuthenticatedClient
from interlock_client.api.payments import create_payment, get_payment, list_payments
from interlock_client.api.refunds import create_refund, get_refund
from interlock_client.models import (
    AttemptStatus,
    CreatePayment,
    CreateRefund,
    Payment,
    PaymentStatus,
    Problem,
    Refund,
    RefundStatus,
)

base, key, control = sys.argv[1:]
client = AuthenticatedClient(base_url=base, token=key)


def fresh():
    return str(uuid.uuid4())


def a(kind, thing):
    assert isinstance(thing, kind), thing
    return thing


def scan(payment):
    body = json.dumps({"code": payment.next_action.qr, "result": "paid"}).encode()
    with urllib.request.urlopen(f"{control}/pay", data=body) as answer:
        assert answer.status == 200, answer.status


def succeeded(payment_id):
    for _ in range(400):
        payment = a(Payment, get_payment.sync(payment_id, client=client))
        if payment.status is PaymentStatus.SUCCEEDED:
            return payment
        time.sleep(0.05)
    raise AssertionError("the payment does not succeed")


order = CreatePayment(
    amount=8888, currency="CNY", order_id=fresh(), description="Two cups of tea", flow="qr"
)
made = a(Payment, create_payment.sync(client=client, body=order, idempotency_key=fresh()))
assert made.status is PaymentStatus.REQUIRES_ACTION, made
assert made.attempts[0].status is AttemptStatus.AWAITING_PAYER, made
scan(made)
paid = succeeded(made.id)
assert paid.attempts[0].status is AttemptStatus.CAPTURED, paid

wanted = CreateRefund(amount=88, merchant_refund_no=fresh())
refund = a(Refund, create_refund.sync(paid.id, client=client, body=wanted, idempotency_key=fresh()))
assert a(Refund, get_refund.sync(refund.id, client=client)).amount == 88
assert refund.status in (RefundStatus.PENDING, RefundStatus.SUCCEEDED), refund

listed = list_payments.sync(client=client, status=PaymentStatus.SUCCEEDED, limit=5)
assert listed.data[0].id == paid.id, listed
assert a(Problem, get_payment.sync("pay_none", client=client)).code == "not_found"
assert a(Problem, list_payments.sync(client=client, limit=101)).param == "limit"

read = a(Payment, get_payment.sync(paid.id, client=client))
print(
    json.dumps(
        {
            "payment": read.id,
            "status": read.status.value,
            "amount": read.amount,
            "refund": read.refunds[0].id,
            "refunded": refund.amount,
        }
    )
)
