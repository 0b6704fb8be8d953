//! Line charts as SVG, each with its legend and the table of what it shows.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::axis::{Axis, Scale};

/// The picture, in units of its own: small enough that its text can be read on a phone.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;
/// Styles of lines that the page's style sheet has; further lines begin again.
const STYLES: usize = 6;

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    pub title: String,
    /// Names and units.
    pub x_title: String,
    pub y_title: String,
    pub x_scale: Scale,
    pub y_scale: Scale,
    pub lines: Vec<Line>,
}

/// A line: its points from left to right. None: there is a gap.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub points: Vec<Point>,
}

/// A point of a line, and how its place is written.
#[derive(Clone, Debug)]
pub struct Point {
    pub x: f64,
    pub y: Option<f64>,
    pub x_text: String,
    pub y_text: String,
}

impl Chart {
    /// The chart with its legend and its table.
    pub fn figure(&self) -> Markup {
        let x_values = self.points().map(|point| point.x);
        let y_values = self.points().filter_map(|point| point.y);
        let x = Axis::new(self.x_scale, x_values);
        let y = Axis::new(self.y_scale, y_values);
        html! {
            figure.chart {
                figcaption { (self.title) }
                (self.legend())
                (self.svg(&x, &y))
                (self.table(&x))
            }
        }
    }

    fn points(&self) -> impl Iterator<Item = &Point> {
        self.lines.iter().flat_map(|line| &line.points)
    }

    fn legend(&self) -> Markup {
        html! {
            @if self.lines.len() > 1 {
                ul.legend {
                    @for (at, line) in self.lines.iter().enumerate() {
                        li {
                            svg viewBox="0 0 28 8" aria-hidden="true" {
                                path class=(style(at)) d="M1 4H27" {}
                            }
                            " " (line.name)
                        }
                    }
                }
            }
        }
    }

    fn svg(&self, x: &Axis, y: &Axis) -> Markup {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        html! {
            svg.plot viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(self.title) {
                text.title x="4" y="16" { (self.y_title) (y.note()) }
                @for tick in &y.ticks {
                    @let at = place_y(y, tick.value);
                    path.grid d={ "M" (LEFT) " " (at) "H" (right) } {}
                    text.tick x=(LEFT - 6.0) y=(at) dy="0.35em" text-anchor="end" { (tick.label) }
                }
                @for tick in &x.ticks {
                    @let at = place_x(x, tick.value);
                    path.grid d={ "M" (at) " " (TOP) "V" (bottom) } {}
                    text.tick x=(at) y=(bottom + 16.0) text-anchor="middle" { (tick.label) }
                }
                text.title x=((LEFT + right) / 2.0) y=(HEIGHT - 8.0) text-anchor="middle" {
                    (self.x_title) (x.note())
                }
                @for (at, line) in self.lines.iter().enumerate() {
                    path class=(style(at)) d=(path(line, x, y)) {}
                }
                path.cursor d={ "M0 " (TOP) "V" (bottom) } {}
            }
        }
    }

    /// What the chart shows, as text. Rows know their place, for the pointer.
    fn table(&self, x: &Axis) -> Markup {
        let rows = self.rows();
        html! {
            details {
                summary { "Table: " (rows.len()) " rows" }
                div.scroll {
                    table {
                        thead {
                            tr {
                                th scope="col" { (self.x_title) }
                                @for line in &self.lines {
                                    th scope="col" { (line.name) }
                                }
                            }
                        }
                        tbody {
                            @for (point, cells) in &rows {
                                tr data-x=(place_x(x, point.x)) {
                                    th scope="row" { (point.x_text) }
                                    @for cell in cells {
                                        td { (cell.unwrap_or("-")) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// A row for each place that any line has a point at.
    fn rows(&self) -> Vec<(&Point, Vec<Option<&str>>)> {
        let mut places: Vec<&Point> = self.points().collect();
        places.sort_by(|one, other| one.x.total_cmp(&other.x));
        places.dedup_by(|one, other| one.x_text == other.x_text);
        let mut cells: Vec<Vec<Option<&str>>> = vec![Vec::new(); places.len()];
        for line in &self.lines {
            let mut points = line.points.iter().peekable();
            for (place, cells) in places.iter().zip(&mut cells) {
                // Points that are written alike were made one.
                while points
                    .next_if(|point| point.x_text != place.x_text && point.x < place.x)
                    .is_some()
                {}
                let here = points.next_if(|point| point.x_text == place.x_text);
                cells.push(here.map(|point| point.y_text.as_str()));
            }
        }
        places.into_iter().zip(cells).collect()
    }
}

fn style(line: usize) -> String {
    format!("line s{}", line % STYLES)
}

/// Tenths of a unit are less than what a screen shows.
fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn place_x(axis: &Axis, value: f64) -> f64 {
    let at = axis.project(value).unwrap_or(1.0);
    tenth(LEFT + at * (WIDTH - LEFT - RIGHT))
}

fn place_y(axis: &Axis, value: f64) -> f64 {
    let at = axis.project(value).unwrap_or(0.0);
    tenth(HEIGHT - BOTTOM - at * (HEIGHT - TOP - BOTTOM))
}

/// A line through the points; a new one behind each gap. A point alone is a dot: the ends are round.
fn path(line: &Line, x: &Axis, y: &Axis) -> String {
    let mut path = String::new();
    let mut pen_is_down = false;
    for point in &line.points {
        let Some(value) = point.y.filter(|value| y.project(*value).is_some()) else {
            pen_is_down = false;
            continue;
        };
        let (at_x, at_y) = (place_x(x, point.x), place_y(y, value));
        let _ = match pen_is_down {
            true => write!(path, "L{at_x} {at_y}"),
            false => write!(path, "M{at_x} {at_y}h0"),
        };
        pen_is_down = true;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, points: &[(f64, Option<f64>)]) -> Line {
        let point = |(x, y): &(f64, Option<f64>)| Point {
            x: *x,
            y: *y,
            x_text: format!("{x:.1}"),
            y_text: y.map_or_else(|| "-".to_owned(), |y| format!("{y:.1}")),
        };
        Line {
            name: name.to_owned(),
            points: points.iter().map(point).collect(),
        }
    }

    fn chart(lines: Vec<Line>) -> Chart {
        Chart {
            title: "Rate <of> it".to_owned(),
            x_title: "time, s".to_owned(),
            y_title: "rate, /s".to_owned(),
            x_scale: Scale::Linear,
            y_scale: Scale::Linear,
            lines,
        }
    }

    #[test]
    fn a_gap_is_no_line() {
        let line = line(
            "a",
            &[
                (0.0, Some(0.0)),
                (1.0, Some(10.0)),
                (2.0, None),
                (4.0, Some(5.0)),
            ],
        );
        let x = Axis::new(Scale::Linear, [0.0, 4.0].into_iter());
        let y = Axis::new(Scale::Linear, [0.0, 10.0].into_iter());
        assert_eq!(path(&line, &x, &y), "M48 254h0L149 30M452 142h0");
    }

    #[test]
    fn the_table_has_all_points_of_all_lines() {
        let chart = chart(vec![
            line("a", &[(0.0, Some(1.0)), (2.0, Some(3.0))]),
            line("b", &[(1.0, Some(7.0)), (2.0, None)]),
        ]);
        let rows: Vec<(&str, Vec<Option<&str>>)> = chart
            .rows()
            .into_iter()
            .map(|(point, cells)| (point.x_text.as_str(), cells))
            .collect();
        assert_eq!(
            rows,
            [
                ("0.0", vec![Some("1.0"), None]),
                ("1.0", vec![None, Some("7.0")]),
                ("2.0", vec![Some("3.0"), Some("-")]),
            ]
        );
    }

    #[test]
    fn titles_are_escaped_and_axes_have_units() {
        let page = chart(vec![line("<b>", &[(0.0, Some(1.0))]), line("&", &[])]);
        let page = page.figure().into_string();
        assert!(
            page.contains("Rate &lt;of&gt; it") && !page.contains("<b>"),
            "{page}"
        );
        assert!(page.contains("time, s") && page.contains("rate, /s"));
    }
}
