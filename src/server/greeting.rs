//! What the program says once it serves.

use super::Running;

/// What a newcomer needs to see first.
pub fn greeting(running: &Running) -> String {
    let url = &running.app.public_url;
    let mut lines = vec![
        format!("Interlock {} serves at {url}", env!("CARGO_PKG_VERSION")),
        format!("  listens on         {}", running.address),
        format!("  API documentation  {url}/docs/"),
    ];

    lines.extend(
        running
            .admin
            .map(|address| format!("  administration     {address}")),
    );

    match &running.demo {
        Some(demo) => {
            lines.push(format!("  sandbox control    {}", demo.sandbox_url));
            for (name, address) in &demo.faces {
                lines.push(format!(
                    "  {name:18} {}",
                    address.as_str().unwrap_or_default()
                ));
            }
            lines.push(format!("  API key            {}", demo.api_key));
            lines.push(format!("\nMake a payment:\n{}", curl(url, &demo.api_key)));
            lines.push("\nPay it as the payer would, with the text of its QR code:".to_owned());
            lines.push(format!(
                "curl -sS {}/pay -d '{{\"code\": \"<qr>\", \"result\": \"paid\"}}'",
                demo.sandbox_url
            ));
        }
        None => lines.push(
            "\nWithout a sandbox there is no demo merchant: `interlock merchant NAME` makes one \
            and `interlock key NAME` a key for it, also while the gateway runs."
                .to_owned(),
        ),
    }

    lines.join("\n") + "\n"
}

fn curl(url: &str, key: &str) -> String {
    let id = "'$(date +%s%N)'";
    let body = format!(
        r#"{{"amount": 8888, "currency": "CNY", "order_id": "demo-{id}", "description": "Two cups of tea", "flow": "qr"}}"#
    );
    format!(
        "curl -sS {url}/v1/payments -H 'Authorization: Bearer {key}' -H \"Idempotency-Key: \
        demo-$(date +%s%N)\" -H 'Content-Type: application/json' -d '{body}'"
    )
}
