// SPDX-License-Identifier: Apache-2.0
//! Charts as SVG. Their colours stand for others: the page's style sheet has them, for light and
//! dark.

use std::collections::BTreeSet;

use anyhow::Result;
use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, Color as _, DrawingArea, ErrorBar, IntoDrawingArea as _, IntoLogRange as _,
        IntoSegmentedCoord as _, IntoTextStyle as _, LineSeries, PathElement, RGBColor, Rectangle,
        SVGBackend, SegmentValue, Text,
    },
    style::{ShapeStyle, TextStyle},
};

use super::{Chart, Figure};
use crate::statistics::{Estimate, Interval};

/// Text and axes.
const INK: RGBColor = RGBColor(0, 0, 0);
/// The grid.
const GRID: RGBColor = RGBColor(200, 200, 200);
/// A case each.
const CASES: [RGBColor; 8] = [
    RGBColor(78, 121, 167),
    RGBColor(242, 142, 43),
    RGBColor(89, 161, 79),
    RGBColor(225, 87, 89),
    RGBColor(176, 122, 161),
    RGBColor(118, 183, 178),
    RGBColor(156, 117, 95),
    RGBColor(186, 176, 172),
];

/// All in pixels.
const WIDTH: u32 = 860;
const BAR: u32 = 20;
const LINES_HEIGHT: u32 = 360;
const LABELS: u32 = 280;
const AXIS: u32 = 44;
const FONT: i32 = 16;

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The chart as an `svg` element: lines over the sizes if the figures have any, bars otherwise.
///
/// # Errors
///
/// If it cannot be drawn.
pub(super) fn svg(chart: &Chart) -> Result<String> {
    let has_sizes = chart.figures.iter().any(|figure| figure.size.is_some());
    let rows = u32::try_from(chart.figures.len())?;
    let height = if has_sizes { LINES_HEIGHT } else { rows * BAR + AXIS + 16 };
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        if has_sizes {
            lines(chart, &canvas)?;
        } else {
            bars(chart, &canvas)?;
        }
        canvas.present()?;
    }
    Ok(svg)
}

fn bars(chart: &Chart, canvas: &Canvas<'_>) -> Result<()> {
    let figures = &chart.figures;
    let cases = cases(chart);
    let most = figures.iter().map(|figure| figure.estimate.high()).fold(0.0, f64::max);
    // The first one is on top.
    let rows = (0..figures.len()).rev();
    let mut plot = ChartBuilder::on(canvas)
        .margin(8)
        .x_label_area_size(AXIS)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(
            0.0..most * 1.05,
            (0..figures.len().saturating_sub(1)).into_segmented(),
        )?;
    let name = |row: &SegmentValue<usize>| match row {
        SegmentValue::CenterOf(row) if *row < figures.len() => {
            let figure = &figures[figures.len() - 1 - row];
            format!("{}, {}", figure.case, figure.family)
        }
        _ => String::new(),
    };
    plot.configure_mesh()
        .disable_y_mesh()
        .y_labels(figures.len())
        .y_label_formatter(&name)
        .x_desc(&chart.unit)
        .x_label_formatter(&|value| number(*value, most))
        .bold_line_style(GRID)
        .light_line_style(GRID.mix(0.0))
        .axis_style(INK)
        .label_style(text())
        .axis_desc_style(text())
        .draw()?;
    for (figure, row) in figures.iter().zip(rows) {
        let colour = colour(&cases, figure);
        let bar = [
            (0.0, SegmentValue::Exact(row)),
            (figure.estimate.median, SegmentValue::Exact(row + 1)),
        ];
        let mut bar = Rectangle::new(bar, colour.filled());
        let _ = bar.set_margin(3, 3, 0, 0);
        let _ = plot.draw_series([bar])?;
        let whisker = figure.estimate.interval.map(|interval| {
            let ends = [interval.low, interval.high];
            PathElement::new(ends.map(|end| (end, SegmentValue::CenterOf(row))), ink(2))
        });
        let _ = plot.draw_series(whisker)?;
    }
    Ok(())
}

fn lines(chart: &Chart, canvas: &Canvas<'_>) -> Result<()> {
    let figures = &chart.figures;
    let cases = cases(chart);
    let most = figures.iter().map(|figure| figure.estimate.high()).fold(0.0, f64::max);
    let sizes = figures.iter().filter_map(size);
    let (first, last) =
        sizes.fold((f64::MAX, 1.0_f64), |(first, last), size| (first.min(size), last.max(size)));
    let has_none = figures.iter().any(|figure| figure.size == Some(0));
    let (plot, legend) = canvas.split_horizontally(WIDTH - LABELS);
    let mut plot = ChartBuilder::on(&plot)
        .margin(8)
        .x_label_area_size(AXIS)
        .y_label_area_size(80)
        .build_cartesian_2d((first * 0.8..last * 1.3).log_scale(), 0.0..most * 1.05)?;
    plot.configure_mesh()
        .x_desc(chart.axis.as_deref().unwrap_or_default())
        .y_desc(&chart.unit)
        .x_label_formatter(&|size| {
            let is_none = has_none && *size < 1.5;
            format!("{:.0}", if is_none { 0.0 } else { *size })
        })
        .y_label_formatter(&|value| number(*value, most))
        .bold_line_style(GRID)
        .light_line_style(GRID.mix(0.0))
        .axis_style(INK)
        .label_style(text())
        .axis_desc_style(text())
        .draw()?;
    let families: BTreeSet<_> = figures.iter().map(|figure| &figure.family).collect();
    let series = cases.iter().flat_map(|case| families.iter().map(move |family| (*case, *family)));
    let mut next = 16;
    for (case, family) in series {
        let own: Vec<_> =
            figures.iter().filter(|f| (f.case.as_str(), &f.family) == (case, family)).collect();
        let Some(figure) = own.first() else { continue };
        // The families of a case have one colour, and lines of different widths.
        let width = if families.first() == Some(&family) { 1 } else { 3 };
        let style = ShapeStyle::from(colour(&cases, figure)).stroke_width(width);
        let points = own.iter().flat_map(|figure| {
            // What has no size is the same at all of them.
            let places = size(figure).map_or_else(|| vec![first, last], |size| vec![size]);
            places.into_iter().map(|place| (place, figure.estimate.median))
        });
        let _ = plot.draw_series(LineSeries::new(points, style))?;
        let bars = own.iter().filter_map(|figure| {
            let Estimate { median, interval } = figure.estimate;
            let Interval { low, high, .. } = interval?;
            Some(ErrorBar::new_vertical(size(figure)?, low, median, high, style, 6))
        });
        let _ = plot.draw_series(bars)?;
        legend.draw(&PathElement::new([(0, next), (20, next)], style))?;
        let name = format!("{case}, {family}");
        legend.draw(&Text::new(name, (28, next - FONT / 3), text()))?;
        next += 22;
    }
    Ok(())
}

/// A number on an axis up to `most`.
fn number(value: f64, most: f64) -> String {
    if most < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// The place on the axis, which has logarithms: none is where one is.
#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn size(figure: &Figure) -> Option<f64> {
    figure.size.map(|size| size.max(1) as f64)
}

/// The cases, in the order in which they are met.
fn cases(chart: &Chart) -> Vec<&str> {
    let mut cases: Vec<&str> = Vec::new();
    for figure in &chart.figures {
        if !cases.contains(&figure.case.as_str()) {
            cases.push(&figure.case);
        }
    }
    cases
}

fn colour(cases: &[&str], figure: &Figure) -> RGBColor {
    let place = cases.iter().position(|case| *case == figure.case).unwrap_or_default();
    CASES[place % CASES.len()]
}

fn ink(width: u32) -> ShapeStyle {
    ShapeStyle::from(INK).stroke_width(width)
}

fn text() -> TextStyle<'static> {
    ("sans-serif", FONT).into_text_style(&(WIDTH, LINES_HEIGHT)).color(&INK)
}

#[cfg(test)]
mod tests {
    use proxy_tests::family::IpFamily;

    use super::{Chart, Figure, svg};

    /// A chart over these sizes, as text.
    fn over(sizes: &[u64]) -> String {
        let figure = |size: &u64| Figure::new("tc", IpFamily::V4, vec![1.0; 15]).unwrap().at(*size);
        let chart = Chart {
            title: "rate".to_owned(),
            unit: "1/s".to_owned(),
            digits: 0,
            axis: Some("other flows".to_owned()),
            in_summary: true,
            rounds: 15,
            dropped: 0,
            figures: sizes.iter().map(figure).collect(),
        };
        svg(&chart).unwrap()
    }

    /// Whether something is labelled with a number.
    fn has_label(svg: &str, number: &str) -> bool {
        svg.lines().any(|line| line.trim() == number)
    }

    #[test]
    fn an_axis_of_logarithms_has_a_place_for_none() {
        let (none, one) = (over(&[0, 4096]), over(&[1, 4096]));
        assert!(!none.contains("NaN") && !none.contains("inf"), "{none}");
        assert!(has_label(&none, "0") && !has_label(&none, "1"), "{none}");
        assert!(has_label(&one, "1") && !has_label(&one, "0"), "{one}");
    }
}
