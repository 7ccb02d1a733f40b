//! Tokens -> expressions, by precedence.

use super::lexer::{Token, tokens};
use super::{Expr, Kind, Matcher, Refused, Selector};

/// Deepest nesting.
const DEPTH_MAX: usize = 64;

/// Binary operators, those that bind least first.
const BINARY: &[&[&str]] = &[
    &["or"],
    &["and", "unless"],
    &["==", "!=", ">=", "<=", ">", "<"],
    &["+", "-"],
    &["*", "/", "%", "atan2"],
    &["^"],
];

/// Aggregations over series; the second of a pair says whether a parameter comes first.
const AGGREGATIONS: &[&str] = &[
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "stddev",
    "stdvar",
    "group",
    "topk",
    "bottomk",
    "quantile",
    "count_values",
    "limitk",
    "limit_ratio",
];

/// Reads an expression.
///
/// # Errors
/// What is no expression, with its place.
pub fn parse(text: &str) -> Result<Expr, Refused> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let expr = parser.binary(0)?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => parser.expected("the end of the expression"),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Parser {
    /// The last token is the end, which is never passed.
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].1
    }

    fn column(&self) -> usize {
        self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn take(&mut self, sign: &str) -> bool {
        let is_it = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, sign: &str) -> Result<(), Refused> {
        if self.take(sign) { Ok(()) } else { self.expected(sign) }
    }

    /// The word that comes next, in lowercase; keywords are written in any case.
    fn word(&self) -> Option<String> {
        match self.peek() {
            Token::Name(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        }
    }

    fn expected<T>(&self, what: &str) -> Result<T, Refused> {
        let found = match self.peek() {
            Token::Name(name) => name.clone(),
            Token::Number(number) => number.to_string(),
            Token::Duration(_) => "a duration".into(),
            Token::Text(text) => format!("{text:?}"),
            Token::Sign(sign) => (*sign).to_string(),
            Token::End => "the end".into(),
        };
        Refused::new(self.column(), format!("expected {what}, found {found}"))
    }

    fn operator(&self, level: usize) -> Option<&'static str> {
        let found = match self.peek() {
            Token::Sign(sign) => (*sign).to_string(),
            _ => self.word()?,
        };
        BINARY[level].iter().find(|operator| **operator == found).copied()
    }

    fn binary(&mut self, level: usize) -> Result<Expr, Refused> {
        if level == BINARY.len() {
            return self.unary();
        }
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = self.operator(level) {
            let at = self.column();
            self.at += 1;
            let modifier = self.modifier()?;
            // A power is of what is right of it: 2 ^ 3 ^ 2 is 2 ^ 9.
            let right = self.binary(if operator == "^" { level } else { level + 1 })?;
            let (column, operator) = (left.column, operator.to_string());
            let kind = Kind::Binary { operator, at, modifier, left: Box::new(left), right: Box::new(right) };
            left = Expr { column, kind };
        }
        Ok(left)
    }

    /// Words behind an operator.
    fn modifier(&mut self) -> Result<Option<(usize, String)>, Refused> {
        let mut first = None;
        while let Some(word) = self
            .word()
            .filter(|word| matches!(word.as_str(), "bool" | "on" | "ignoring" | "group_left" | "group_right"))
        {
            first.get_or_insert((self.column(), word.clone()));
            self.at += 1;
            if word != "bool" && matches!(self.peek(), Token::Sign("(")) {
                self.labels()?;
            }
        }
        Ok(first)
    }

    fn unary(&mut self) -> Result<Expr, Refused> {
        let column = self.column();
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Refused::new(
                column,
                format!("expected at most {DEPTH_MAX} levels of nesting, found more"),
            );
        }
        let expr = if self.take("-") {
            // A power binds more than the sign before it.
            let inner = self.binary(BINARY.len() - 1)?;
            Expr { column, kind: Kind::Negative(Box::new(inner)) }
        } else if self.take("+") {
            self.binary(BINARY.len() - 1)?
        } else {
            self.modified()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    /// An expression with ranges, offsets and the like behind it.
    fn modified(&mut self) -> Result<Expr, Refused> {
        let mut expr = self.primary()?;
        loop {
            let (at, column) = (self.column(), expr.column);
            if self.take("[") {
                let Token::Duration(range) = self.next() else {
                    self.at -= 1;
                    return self.expected("a duration such as 5m");
                };
                if self.take(":") {
                    if matches!(self.peek(), Token::Duration(_)) {
                        self.at += 1;
                    }
                    expr = Expr { column, kind: Kind::Modified(Box::new(expr), at, "a subquery") };
                } else {
                    match &mut expr.kind {
                        Kind::Selector(selector) if selector.range.is_none() => selector.range = Some(range),
                        _ => return Refused::new(at, "expected a range behind a selector alone"),
                    }
                }
                self.expect("]")?;
            } else if self.take("@") {
                self.unary()?;
                expr = Expr { column, kind: Kind::Modified(Box::new(expr), at, "@") };
            } else if self.word().as_deref() == Some("offset") {
                self.at += 1;
                self.take("-");
                match self.next() {
                    Token::Duration(_) | Token::Number(_) => {}
                    _ => {
                        self.at -= 1;
                        return self.expected("a duration such as 5m");
                    }
                }
                expr = Expr { column, kind: Kind::Modified(Box::new(expr), at, "offset") };
            } else {
                return Ok(expr);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, Refused> {
        let column = self.column();
        let kind = match self.peek().clone() {
            Token::Number(number) => {
                self.at += 1;
                Kind::Number(number)
            }
            Token::Duration(duration) => {
                self.at += 1;
                Kind::Number(duration.as_secs_f64())
            }
            Token::Text(text) => {
                self.at += 1;
                Kind::Text(text)
            }
            Token::Sign("(") => {
                self.at += 1;
                let inner = self.binary(0)?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Sign("{") => Kind::Selector(self.selector(String::new())?),
            Token::Name(name) => {
                self.at += 1;
                self.named(name)?
            }
            Token::Sign(_) | Token::End => return self.expected("a number, a metric or a function"),
        };
        Ok(Expr { column, kind })
    }

    fn named(&mut self, name: String) -> Result<Kind, Refused> {
        let word = name.to_ascii_lowercase();
        if matches!(word.as_str(), "inf" | "nan") && !matches!(self.peek(), Token::Sign("{" | "(")) {
            return Ok(Kind::Number(if word == "inf" { f64::INFINITY } else { f64::NAN }));
        }
        let groups = matches!(self.word().as_deref(), Some("by" | "without"));
        if AGGREGATIONS.contains(&word.as_str()) && (groups || matches!(self.peek(), Token::Sign("("))) {
            let mut grouping = self.grouping()?;
            let arguments = self.arguments()?;
            if grouping.is_none() {
                grouping = self.grouping()?;
            }
            return Ok(Kind::Aggregation { name: word, grouping, arguments });
        }
        if matches!(self.peek(), Token::Sign("(")) {
            return Ok(Kind::Call { name, arguments: self.arguments()? });
        }
        Ok(Kind::Selector(self.selector(name)?))
    }

    fn grouping(&mut self) -> Result<Option<(bool, Vec<String>)>, Refused> {
        let by = match self.word().as_deref() {
            Some("by") => true,
            Some("without") => false,
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some((by, self.labels()?)))
    }

    fn labels(&mut self) -> Result<Vec<String>, Refused> {
        self.expect("(")?;
        let mut labels = Vec::new();
        while !self.take(")") {
            match self.next() {
                Token::Name(name) | Token::Text(name) => labels.push(name),
                _ => {
                    self.at -= 1;
                    return self.expected("a label");
                }
            }
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(labels)
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, Refused> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        while !self.take(")") {
            arguments.push(self.binary(0)?);
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(arguments)
    }

    fn selector(&mut self, metric: String) -> Result<Selector, Refused> {
        let mut selector = Selector { metric, ..Selector::default() };
        if !self.take("{") {
            return Ok(selector);
        }
        while !self.take("}") {
            let column = self.column();
            let (name, quoted) = match self.next() {
                Token::Name(name) => (name, false),
                Token::Text(name) => (name, true),
                _ => {
                    self.at -= 1;
                    return self.expected("a label");
                }
            };
            let operator = match self.peek() {
                Token::Sign(sign @ ("=" | "!=" | "=~" | "!~")) => (*sign).to_string(),
                // A name alone in quotes is the metric's.
                Token::Sign("," | "}") if quoted && selector.metric.is_empty() => {
                    selector.metric = name;
                    self.take(",");
                    continue;
                }
                _ => return self.expected("one of =, !=, =~, !~"),
            };
            self.at += 1;
            let Token::Text(value) = self.next() else {
                self.at -= 1;
                return self.expected("a text in quotes");
            };
            if name == "__name__" && operator == "=" && selector.metric.is_empty() {
                selector.metric = value;
            } else {
                selector.matchers.push(Matcher { column, name, operator, value });
            }
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(selector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With every pair of brackets that precedence implies.
    fn shown(expr: &Expr) -> String {
        let list = |exprs: &[Expr]| exprs.iter().map(shown).collect::<Vec<_>>().join(", ");
        match &expr.kind {
            Kind::Number(number) => number.to_string(),
            Kind::Text(text) => format!("{text:?}"),
            Kind::Selector(Selector { metric, matchers, range }) => {
                let matchers: Vec<String> =
                    matchers.iter().map(|m| format!("{}{}{:?}", m.name, m.operator, m.value)).collect();
                let range = range.map(|range| format!("[{}s]", range.as_secs_f64())).unwrap_or_default();
                format!("{metric}{{{}}}{range}", matchers.join(","))
            }
            Kind::Call { name, arguments } => format!("{name}({})", list(arguments)),
            Kind::Aggregation { name, grouping, arguments } => {
                let grouping = grouping.as_ref().map(|(by, labels)| {
                    format!(" {}({})", if *by { "by" } else { "without" }, labels.join(","))
                });
                format!("{name}{}({})", grouping.unwrap_or_default(), list(arguments))
            }
            Kind::Binary { operator, modifier, left, right, .. } => {
                let modifier = modifier.as_ref().map(|(_, word)| format!(" {word}")).unwrap_or_default();
                format!("({} {operator}{modifier} {})", shown(left), shown(right))
            }
            Kind::Negative(inner) => format!("-{}", shown(inner)),
            Kind::Modified(inner, _, word) => format!("{} {word}", shown(inner)),
        }
    }

    #[test]
    fn what_binds_more_goes_first() {
        for (text, expected) in [
            ("1 + 2 * 3 ^ 2 ^ 2 > 4", "((1 + (2 * (3 ^ (2 ^ 2)))) > 4)"),
            ("-2 ^ 2", "-(2 ^ 2)"),
            ("a or b and c unless d", "(a{} or ((b{} and c{}) unless d{}))"),
            ("a / b / c", "((a{} / b{}) / c{})"),
            ("(a / b) > bool 5m", "((a{} / b{}) > bool 300)"),
            ("a * on(x) group_left(y, z) b", "(a{} * on b{})"),
            ("rate(a{b=~\"c.*\",d!='e',}[5m]) > 1", "(rate(a{b=~\"c.*\",d!=\"e\"}[300s]) > 1)"),
            ("SUM(x) BY (a, b) > 1", "(sum by(a,b)(x{}) > 1)"),
            ("sum without () (x)", "sum without()(x{})"),
            ("topk(3, x)", "topk(3, x{})"),
            ("{__name__=\"a\", x=\"y\"}", "a{x=\"y\"}"),
            ("{\"a.b\", x=\"y\"}", "a.b{x=\"y\"}"),
            ("max_over_time(rate(a[5m])[1h:1m])", "max_over_time(rate(a{}[300s]) a subquery)"),
            ("a offset 5m > 1 @ 3", "(a{} offset > 1 @)"),
            ("sum > 1", "(sum{} > 1)"),
            ("inf", "inf"),
        ] {
            let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(shown(&expr), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_told_with_its_place() {
        for (text, expected) in [
            ("", "character 1: expected a number, a metric or a function, found the end"),
            ("a >", "character 4: expected a number, a metric or a function, found the end"),
            ("a > 5 5", "character 7: expected the end of the expression, found 5"),
            ("a{b}", "character 4: expected one of =, !=, =~, !~, found }"),
            ("a{b=5}", "character 5: expected a text in quotes, found 5"),
            ("a[5]", "character 3: expected a duration such as 5m, found 5"),
            ("(a", "character 3: expected ), found the end"),
            ("sum by x (a)", "character 8: expected (, found x"),
            ("rate(a)[5m]", "character 8: expected a range behind a selector alone"),
        ] {
            assert_eq!(parse(text).map(|_| ()).map_err(|e| e.to_string()), Err(expected.into()), "{text}");
        }
        let deep = "(".repeat(100_000);
        assert!(parse(&deep).unwrap_err().to_string().contains("levels of nesting"));
    }
}
