// Makes, reads and refunds a payment with a client whose types were made from /openapi.json. It is compiled strictly, and
// the lines that expect an error fail the compilation where there is none: the types tell states apart.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Payment = components["schemas"]["Payment"];

declare const process: { argv: string[] };

const [, , base = "", key = "", control = ""] = process.argv;
const client = createClient<paths>({ baseUrl: base, headers: { Authorization: `Bearer ${key}` } });
const fresh = (): string => crypto.randomUUID();

function known<T>(what: T | undefined, error: unknown): T {
  if (what === undefined) throw new Error(`refused: ${JSON.stringify(error)}`);
  return what;
}

async function create(): Promise<Payment> {
  const { data, error } = await client.POST("/v1/payments", {
    params: { header: { "Idempotency-Key": fresh() } },
    body: { amount: 8888, currency: "CNY", order_id: fresh(), description: "Two cups of tea", flow: "qr" },
  });
  return known(data, error);
}

async function read(id: string): Promise<Payment> {
  const { data, error } = await client.GET("/v1/payments/{id}", { params: { path: { id } } });
  return known(data, error);
}

async function scan(payment: Payment): Promise<void> {
  const body = JSON.stringify({ code: payment.next_action.qr, result: "paid" });
  const answer = await fetch(`${control}/pay`, { method: "POST", body });
  if (!answer.ok) throw new Error(`the sandbox says ${answer.status}`);
}

async function succeeded(id: string): Promise<Payment> {
  for (let round = 0; round < 400; round += 1) {
    const payment = await read(id);
    if (payment.status === "succeeded") return payment;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("the payment does not succeed");
}

const made = await create();
if (made.status !== "requires_action" || made.attempts[0]?.status !== "awaiting_payer") {
  throw new Error(`a payment without a code: ${JSON.stringify(made)}`);
}
await scan(made);
const paid = await succeeded(made.id);
// @ts-expect-error: this is a state of attempts.
if (paid.status === "captured") throw new Error("never");
if (paid.attempts[0]?.status !== "captured") throw new Error("whose money is it?");

const { data: refund, error } = await client.POST("/v1/payments/{id}/refunds", {
  params: { path: { id: paid.id }, header: { "Idempotency-Key": fresh() } },
  body: { amount: 88, merchant_refund_no: fresh() },
});
const refunded = known(refund, error);
// @ts-expect-error: this is a state of payments.
if (refunded.status === "requires_action") throw new Error("never");

const { data: list } = await client.GET("/v1/payments", { params: { query: { status: "succeeded", limit: 5 } } });
if (list?.data[0]?.id !== paid.id) throw new Error(`not in the list: ${JSON.stringify(list)}`);
// @ts-expect-error: a list takes no other state than a payment's.
const wrong = await client.GET("/v1/payments", { params: { query: { status: "captured" } } });
if (wrong.error?.param !== "status" || wrong.response.status !== 422) throw new Error("taken all the same");
const none = await client.GET("/v1/payments/{id}", { params: { path: { id: "pay_none" } } });
if (none.error?.code !== "not_found") throw new Error("found all the same");

const read_again = await read(paid.id);
console.log(
  JSON.stringify({
    payment: read_again.id,
    status: read_again.status,
    amount: read_again.amount,
    refund: read_again.refunds[0]?.id,
    refunded: refunded.amount,
  }),
);
