//! Expressions, one line each.

use serde_json::json;

use super::*;

fn run(text: &str) -> Result<Value, String> {
    let pipeline = PipelineScope {
        parameters: json!({"table": "orders", "n": 3, "list": [1, "b"], "none": null})
            .as_object()
            .cloned()
            .expect("object"),
        members: json!({"RunId": "r-1", "Pipeline": "P"}).as_object().cloned().expect("object"),
    };
    let dataset = json!({"folder": "in"}).as_object().cloned().expect("object");
    let scope = Scope {
        pipeline: Some(&pipeline),
        dataset: Some(&dataset),
        linked_service: None,
        now_micros: Some(1_514_793_600_123_456),
    };
    evaluate(&json!(text), scope).map_err(|fault| fault.message)
}

#[test]
fn values() {
    for (text, expected) in [
        ("plain", json!("plain")),
        ("a@b.c", json!("a@b.c")),
        (" @pipeline()", json!(" @pipeline()")),
        ("@@concat('a')", json!("@concat('a')")),
        ("x @@{y}", json!("x @{y}")),
        ("@pipeline().parameters.n", json!(3)),
        ("@pipeline().Parameters['TABLE']", json!("orders")),
        ("@{pipeline().parameters.n}", json!("3")),
        (
            "select * from @{pipeline().parameters.table} where a = '@{dataset().folder}'",
            json!("select * from orders where a = 'in'"),
        ),
        ("@pipeline().parameters.list[1]", json!("b")),
        ("@pipeline()?.TriggeredByPipelineName", json!(null)),
        ("@pipeline().runid", json!("r-1")),
        ("@concat('it''s ', pipeline().parameters.table)", json!("it's orders")),
        ("@CONCAT('a', 1, true)", json!("a1True")),
        ("@if(equals(pipeline().parameters.n, 3), 'x', 'y')", json!("x")),
        ("@coalesce(pipeline().parameters.none, 'd')", json!("d")),
        ("@div(11, 5)", json!(2)),
        ("@div(11, 5.0)", json!(2.2)),
        ("@add(1, mul(2, sub(5, -1)))", json!(13)),
        ("@substring('abcdef', 1, 2)", json!("bc")),
        ("@replace('a-b-c', '-', '')", json!("abc")),
        ("@toUpper(trim(' x '))", json!("X")),
        ("@split('a,b', ',')", json!(["a", "b"])),
        ("@join(createArray('a', 1), '/')", json!("a/1")),
        ("@indexOf('Hello', 'LL')", json!(2)),
        ("@endsWith('file.CSV', '.csv')", json!(true)),
        ("@int('42')", json!(42)),
        ("@string(json('{\"a\":1}'))", json!("{\"a\":1}")),
        ("@json('{\"a\":[7]}').a[0]", json!(7)),
        ("@utcNow()", json!("2018-01-01T08:00:00.1234560Z")),
        ("@utcNow('yyyy/MM/dd')", json!("2018/01/01")),
        ("@formatDateTime('2018-01-01T17:05:09Z', 'yyyy-MM-dd hh:mm:ss tt')", json!("2018-01-01 05:05:09 PM")),
        ("@formatDateTime('01/31/2018 13:00:00', 'D')", json!("Wednesday, January 31, 2018")),
        ("@addDays('2018-02-28', 1, 'yyyyMMdd')", json!("20180301")),
        ("@addHours('2018-01-01T00:00:00+02:00', 1)", json!("2017-12-31T23:00:00.0000000Z")),
        ("@startOfMonth('2018-03-15T08:15:00Z', 'd')", json!("3/1/2018")),
        ("@dayOfWeek('2018-01-07')", json!(0)),
        ("@ticks('0001-01-01')", json!(0)),
        ("@base64ToString(base64('a b'))", json!("a b")),
        ("@uriComponent('a b/ü')", json!("a%20b%2F%C3%BC")),
        ("@max(1, 3, 2)", json!(3)),
        ("@range(1, 3)", json!([1, 2, 3])),
        ("@contains(pipeline().parameters.list, 'b')", json!(true)),
    ] {
        assert_eq!(run(text), Ok(expected), "{text}");
    }
}

#[test]
fn refusals() {
    for (text, expected) in [
        ("@nosuch(1)", "The template function 'nosuch' is not defined or not valid."),
        ("@concat('a'", "A comma or a closing parenthesis is missing at character 11."),
        ("@concat('a)", "A closing quote is missing."),
        ("@", "It is empty or ends too early."),
        ("@orders", "\"orders\" is neither a function call nor a literal; texts stand in single quotes."),
        ("@{pipeline().RunId", "A closing brace is missing."),
        ("@pipeline().RunId x", "There is something left over at character 18: \"x\"."),
        (
            "@pipeline().parameters.x",
            "The property 'x' does not exist; available properties are 'table, n, list, none'.",
        ),
        ("@pipeline().parameters.list[2]", "The index 2 is outside an array of 2 items."),
        ("@activity('a').output.x", "activity() cannot be used yet: its value is known only while the run goes on."),
        ("@variables('v')", "variables() cannot be used yet: its value is known only while the run goes on."),
        ("@linkedService().x", "linkedService() is known only inside a linked service."),
        ("@guid()", "guid() cannot be used yet: a repeated attempt would get another value."),
        ("@div(1, 0)", "The function 'div': the divisor is 0."),
        ("@substring('abc', 2, 5)", "The function 'substring': start and length must lie inside the text."),
        ("@toLower(1)", "The function 'toLower': a text is needed, not a number."),
        ("@toLower()", "The function 'toLower' takes 1 arguments, not 0."),
        ("@formatDateTime('soon')", "The function 'formatDateTime': \"soon\" is not a date."),
        ("@add(9223372036854775807, 1)", "The function 'add': the result is too large."),
    ] {
        let message = run(text).expect_err(text);
        assert_eq!(message, format!("The expression \"{text}\" cannot be evaluated. {expected}"));
    }
    let deep = format!("@{}1{}", "not(".repeat(100), ")".repeat(100));
    assert!(run(&deep).expect_err("deep").contains("nested deeper than 64"));
}

#[test]
fn expression_objects_are_evaluated_in_place() {
    let value = json!({"query": {"value": "@concat('a', 'b')", "type": "Expression"}, "list": ["@toUpper('x')", 1]});
    let evaluated = evaluate(&value, Scope::default()).expect("evaluates");
    assert_eq!(evaluated, json!({"query": "ab", "list": ["X", 1]}));
}
