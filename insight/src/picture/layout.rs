//! Where the vertices of a graph are drawn, and along which points its edges run.
//!
//! The vertices stand in ranks, each above all that it uses. Which stands where in its rank, so that few edges cross, is
//! found by `rust-sugiyama`. Around it, what it lacks: edges that pass a rank get a point of their own there, so that they
//! run around vertices and not through them; separate parts are packed in rows; vertices that could change places stand in
//! the order in which they run; and nothing overlaps, which a last pass makes sure of.

use super::Direction;
use rust_sugiyama::configure::{Config, CrossingMinimization, RankingType};
use std::collections::HashMap;

/// A point, or a size.
pub(super) type Point = (f64, f64);

/// Between vertices of one rank.
const GAP: f64 = 18.0;
/// Between an edge that passes and what stands beside it.
const PASSING: f64 = 10.0;
/// Between ranks; more where edges run far to the side.
const RANK_GAP: f64 = 38.0;
const WIDEST_RANK_GAP: f64 = 150.0;
/// Between separate parts.
const PART_GAP: f64 = 36.0;
/// Most points at which edges pass ranks, in one part. Longer edges run straight then.
const MOST_PASSING: usize = 2000;
/// The most links of a part for which neighbours in a rank change places one by one.
const MOST_TRANSPOSED: usize = 4000;
/// The library descends along paths of the graph, so it runs on a stack of its own.
const STACK: usize = 64 << 20;

/// Where everything is. All coordinates are positive.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Layout {
    /// The middle of each vertex.
    pub(super) places: Vec<Point>,
    /// For each edge the points between its ends, from its tail to its head.
    pub(super) routes: Vec<Vec<Point>>,
    /// The room that all takes.
    pub(super) size: Point,
}

/// A separate part of the graph.
#[derive(Default)]
struct Part {
    vertices: Vec<u32>,
    edges: Vec<u32>,
}

/// Something that stands in a rank: a vertex, or an edge that passes.
#[derive(Clone, Copy)]
struct Item {
    rank: usize,
    /// Along the rank.
    x: f64,
    width: f64,
    /// The vertex; none: an edge passes.
    vertex: Option<u32>,
}

/// Lays out a graph without circles. `sizes` are those of the vertices; an edge leads from what is used to what uses it.
pub(super) fn layout(sizes: &[Point], edges: &[(u32, u32)], direction: Direction) -> Layout {
    // Inside, data flows down along y; along x is the place in the rank.
    let turned: Vec<Point> = match direction {
        Direction::Up => sizes.to_vec(),
        Direction::Right => sizes.iter().map(|&(w, h)| (h, w)).collect(),
    };
    let mut layout =
        Layout { places: vec![(0.0, 0.0); sizes.len()], routes: vec![Vec::new(); edges.len()], size: (0.0, 0.0) };
    let ranks = ranks(sizes.len(), edges);
    let parts = parts(sizes.len(), edges);
    let sizes_of_parts: Vec<Point> =
        parts.iter().map(|part| lay_out_part(part, &turned, edges, &ranks, &mut layout)).collect();
    pack(&parts, &sizes_of_parts, direction, &mut layout);
    let (across, along) = layout.size;
    for point in layout.places.iter_mut().chain(layout.routes.iter_mut().flatten()) {
        *point = match direction {
            Direction::Up => (point.0, along - point.1),
            Direction::Right => (point.1, point.0),
        };
    }
    if direction == Direction::Right {
        layout.size = (along, across);
    }
    layout
}

/// The rank of each vertex: below all that use it, and near them where it has more users than inputs.
fn ranks(vertices: usize, edges: &[(u32, u32)]) -> Vec<usize> {
    let (outs, ins) = (rows(vertices, edges, |e| e.0), rows(vertices, edges, |e| e.1));
    let mut missing: Vec<usize> = (0..vertices).map(|v| ins.of(v).len()).collect();
    let mut ranks = vec![0; vertices];
    let mut order: Vec<usize> = (0..vertices).filter(|&v| missing[v] == 0).collect();
    let mut next = 0;
    while let Some(&vertex) = order.get(next) {
        next += 1;
        for &edge in outs.of(vertex) {
            let head = edges[edge as usize].1 as usize;
            ranks[head] = ranks[head].max(ranks[vertex] + 1);
            missing[head] -= 1;
            if missing[head] == 0 {
                order.push(head);
            }
        }
    }
    for &vertex in order.iter().rev() {
        let nearest = outs.of(vertex).iter().map(|&e| ranks[edges[e as usize].1 as usize]).min();
        if let Some(nearest) = nearest
            && ins.of(vertex).len() <= outs.of(vertex).len()
        {
            ranks[vertex] = nearest - 1;
        }
    }
    ranks
}

/// Edges by one of their ends.
struct Rows {
    ends: Vec<usize>,
    edges: Vec<u32>,
}

impl Rows {
    fn of(&self, vertex: usize) -> &[u32] {
        let first = if vertex == 0 { 0 } else { self.ends[vertex - 1] };
        &self.edges[first..self.ends[vertex]]
    }
}

fn rows(vertices: usize, edges: &[(u32, u32)], end: impl Fn(&(u32, u32)) -> u32) -> Rows {
    let mut ends = vec![0; vertices];
    edges.iter().for_each(|edge| ends[end(edge) as usize] += 1);
    let mut total = 0;
    for slot in &mut ends {
        let count = *slot;
        *slot = total;
        total += count;
    }
    let mut sorted = vec![0; edges.len()];
    for (edge, number) in edges.iter().zip(0..) {
        let at = &mut ends[end(edge) as usize];
        sorted[*at] = number;
        *at += 1;
    }
    Rows { ends, edges: sorted }
}

/// The separate parts, in the order of their first vertices.
fn parts(vertices: usize, edges: &[(u32, u32)]) -> Vec<Part> {
    let mut roots: Vec<usize> = (0..vertices).collect();
    fn root(roots: &mut [usize], mut vertex: usize) -> usize {
        while roots[vertex] != vertex {
            roots[vertex] = roots[roots[vertex]];
            vertex = roots[vertex];
        }
        vertex
    }
    for &(tail, head) in edges {
        let (a, b) = (root(&mut roots, tail as usize), root(&mut roots, head as usize));
        roots[a.max(b)] = a.min(b);
    }
    let mut numbers = vec![usize::MAX; vertices];
    let mut parts: Vec<Part> = Vec::new();
    for vertex in 0..vertices {
        let root = root(&mut roots, vertex);
        if root == vertex {
            numbers[vertex] = parts.len();
            parts.push(Part::default());
        }
        numbers[vertex] = numbers[root];
        parts[numbers[vertex]].vertices.push(vertex as u32);
    }
    for (edge, number) in edges.iter().zip(0..) {
        parts[numbers[edge.0 as usize]].edges.push(number);
    }
    parts
}

/// Lays out one part by itself, and gives its size.
fn lay_out_part(part: &Part, sizes: &[Point], edges: &[(u32, u32)], ranks: &[usize], layout: &mut Layout) -> Point {
    let lowest = part.vertices.iter().map(|&v| ranks[v as usize]).min().unwrap_or_default();
    let mut numbers = HashMap::new();
    let mut items: Vec<Item> = Vec::with_capacity(part.vertices.len());
    for &vertex in &part.vertices {
        numbers.insert(vertex, items.len());
        let (rank, width) = (ranks[vertex as usize] - lowest, sizes[vertex as usize].0);
        items.push(Item { rank, x: 0.0, width, vertex: Some(vertex) });
    }
    let vertices = items.len();

    // The shortest edges first: where there are too many points, those that pass the most ranks go without.
    let mut by_length: Vec<u32> = part.edges.clone();
    let length = |edge: u32| {
        let (tail, head) = edges[edge as usize];
        ranks[head as usize] - ranks[tail as usize]
    };
    by_length.sort_by_key(|&edge| length(edge));
    let mut links: Vec<(u32, u32)> = Vec::with_capacity(part.edges.len());
    let mut passes: Vec<(u32, std::ops::Range<usize>)> = Vec::new();
    for edge in by_length {
        let (tail, head) = edges[edge as usize];
        let (first, more) = (items.len(), length(edge) - 1);
        if first - vertices + more > MOST_PASSING {
            break;
        }
        let (mut from, to) = (numbers[&tail], numbers[&head]);
        for rank in ranks[tail as usize] - lowest + 1..ranks[head as usize] - lowest {
            links.push((from as u32, items.len() as u32));
            from = items.len();
            items.push(Item { rank, x: 0.0, width: 0.0, vertex: None });
        }
        links.push((from as u32, to as u32));
        passes.push((edge, first..items.len()));
    }
    place(&mut items, &links);

    let left = items.iter().map(|item| item.x - item.width / 2.0).fold(f64::INFINITY, f64::min);
    let right = items.iter().map(|item| item.x + item.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let (heights, height) = heights(&items, &links, sizes);
    for item in &items {
        if let Some(vertex) = item.vertex {
            layout.places[vertex as usize] = (item.x - left, heights[item.rank]);
        }
    }
    for (edge, points) in passes {
        layout.routes[edge as usize] = items[points].iter().map(|item| (item.x - left, heights[item.rank])).collect();
    }
    (right - left, height)
}

/// The middle of each rank, and the height of all.
fn heights(items: &[Item], links: &[(u32, u32)], sizes: &[Point]) -> (Vec<f64>, f64) {
    let ranks = items.iter().map(|item| item.rank + 1).max().unwrap_or_default();
    let mut thick = vec![0_f64; ranks];
    for item in items {
        let height = item.vertex.map_or(0.0, |vertex| sizes[vertex as usize].1);
        thick[item.rank] = thick[item.rank].max(height);
    }
    // Where edges run far to the side, the ranks stand further apart, so that the edges are not flat.
    // Beside words on edges, which are not high, less room is enough.
    let least = |rank: usize| RANK_GAP.min(14.0 + thick[rank].min(*thick.get(rank + 1).unwrap_or(&0.0)) / 2.0);
    let mut gaps: Vec<f64> = (0..ranks).map(least).collect();
    for &(tail, head) in links {
        let (tail, head) = (&items[tail as usize], &items[head as usize]);
        let gap = (least(tail.rank) + (tail.x - head.x).abs() / 10.0).min(WIDEST_RANK_GAP);
        gaps[tail.rank] = gaps[tail.rank].max(gap);
    }
    let (mut middles, mut y) = (Vec::with_capacity(ranks), 0.0);
    for (thick, gap) in thick.iter().zip(gaps) {
        middles.push(y + thick / 2.0);
        y += thick + gap;
    }
    let last_gap = middles.last().zip(thick.last()).map_or(0.0, |(middle, thick)| y - middle - thick / 2.0);
    (middles, y - last_gap)
}

/// Finds `x` of all items.
fn place(items: &mut [Item], links: &[(u32, u32)]) {
    let mut order = by_rank(items);
    if links.is_empty() || !place_by_sugiyama(items, links) {
        place_in_order(items, &order);
    }
    mirror(items, &order);
    let at = |items: &[Item], i: &u32| items[*i as usize].x;
    for rank in &mut order {
        rank.sort_by(|a, b| at(items, a).total_cmp(&at(items, b)));
    }
    put_in_order_of_runs(items, links, &mut order);
    for rank in &order {
        push_apart(items, rank);
    }
}

fn by_rank(items: &[Item]) -> Vec<Vec<u32>> {
    let mut order: Vec<Vec<u32>> = vec![Vec::new(); items.iter().map(|item| item.rank + 1).max().unwrap_or_default()];
    for (item, number) in items.iter().zip(0..) {
        order[item.rank].push(number);
    }
    order
}

/// The room that two neighbours in a rank need between their middles.
fn distance(a: &Item, b: &Item) -> f64 {
    let gap = if a.vertex.is_some() && b.vertex.is_some() { GAP } else { PASSING };
    (a.width + b.width) / 2.0 + gap
}

fn place_by_sugiyama(items: &mut [Item], links: &[(u32, u32)]) -> bool {
    let config = Config {
        minimum_length: 1,
        vertex_spacing: GAP,
        dummy_vertices: true,
        dummy_size: 1.0,
        // All links are between neighbouring ranks: they are of the least length in these ranks and in no others.
        ranking_type: RankingType::MinimizeEdgeLength,
        c_minimization: CrossingMinimization::Barycenter,
        // The last look at pairs of neighbours is slow where there are many.
        transpose: links.len() <= MOST_TRANSPOSED,
    };
    let vertices: Vec<(u32, Point)> = items.iter().zip(0..).map(|(item, i)| (i, (item.width, 1.0))).collect();
    let run = || rust_sugiyama::from_vertices_and_edges(&vertices, links, &config);
    let found = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("swath-layout".to_string()).stack_size(STACK);
        thread.spawn_scoped(scope, run).ok()?.join().ok()
    });
    let Some(parts) = found else { return false };
    // Edges that have been left out may have been all that held parts together.
    let mut left = 0.0;
    for (places, ..) in parts {
        let half = |i: usize| vertices[i].1.0 / 2.0;
        let first = places.iter().map(|&(i, (x, _))| x - half(i)).fold(f64::INFINITY, f64::min);
        let last = places.iter().map(|&(i, (x, _))| x + half(i)).fold(f64::NEG_INFINITY, f64::max);
        if !first.is_finite() || !last.is_finite() {
            return false;
        }
        for &(i, (x, _)) in &places {
            items[i].x = left + x - first;
        }
        left += last - first + GAP;
    }
    true
}

/// The plain way: each rank in the order in which its tasks run, around one middle.
fn place_in_order(items: &mut [Item], order: &[Vec<u32>]) {
    for rank in order {
        let mut x = 0.0;
        for (n, &i) in rank.iter().enumerate() {
            if n > 0 {
                x += distance(&items[rank[n - 1] as usize], &items[i as usize]);
            }
            items[i as usize].x = x;
        }
        rank.iter().for_each(|&i| items[i as usize].x -= x / 2.0);
    }
}

/// Turns all around if what runs first stands on the right.
fn mirror(items: &mut [Item], order: &[Vec<u32>]) {
    let mut slope = 0.0;
    for rank in order {
        let vertices: Vec<(f64, f64)> = rank
            .iter()
            .map(|&i| &items[i as usize])
            .filter_map(|item| Some((f64::from(item.vertex?), item.x)))
            .collect();
        let n = vertices.len().max(1) as f64;
        let middle = vertices.iter().map(|v| v.0).sum::<f64>() / n;
        slope += vertices.iter().map(|(number, x)| (number - middle).signum() * x).sum::<f64>();
    }
    if slope < 0.0 {
        items.iter_mut().for_each(|item| item.x = -item.x);
    }
}

/// Vertices of a rank that have the same neighbours stand in the order in which they run.
fn put_in_order_of_runs(items: &mut [Item], links: &[(u32, u32)], order: &mut [Vec<u32>]) {
    let mut neighbours: Vec<Vec<u32>> = vec![Vec::new(); items.len()];
    for &(tail, head) in links {
        neighbours[tail as usize].push(head);
        neighbours[head as usize].push(tail);
    }
    neighbours.iter_mut().for_each(|list| list.sort_unstable());
    for rank in order {
        let mut twins: HashMap<&[u32], Vec<usize>> = HashMap::new();
        for (slot, &i) in rank.iter().enumerate() {
            if items[i as usize].vertex.is_some() && !neighbours[i as usize].is_empty() {
                twins.entry(&neighbours[i as usize]).or_default().push(slot);
            }
        }
        let before = rank.clone();
        for slots in twins.into_values() {
            let mut members: Vec<u32> = slots.iter().map(|&slot| before[slot]).collect();
            members.sort_unstable();
            // Each stands where another did, as far to the right as the widths before it say.
            let (first, last) = (&items[before[slots[0]] as usize], &items[before[slots[slots.len() - 1]] as usize]);
            let span = last.x + last.width / 2.0 - (first.x - first.width / 2.0);
            let widths: f64 = members.iter().map(|&i| items[i as usize].width).sum();
            let gap = (span - widths) / (members.len() - 1).max(1) as f64;
            let together = slots[slots.len() - 1] - slots[0] + 1 == slots.len();
            let mut x = first.x - first.width / 2.0;
            let old: Vec<f64> = slots.iter().map(|&slot| items[before[slot] as usize].x).collect();
            for ((&i, &slot), old) in members.iter().zip(&slots).zip(old) {
                rank[slot] = i;
                let item = &mut items[i as usize];
                item.x = if together { x + item.width / 2.0 } else { old };
                x += item.width + gap;
            }
        }
    }
}

/// Makes room where neighbours of a rank stand too near to each other, half of it on each side.
fn push_apart(items: &mut [Item], rank: &[u32]) {
    let middle = |items: &[Item]| rank.iter().map(|&i| items[i as usize].x).sum::<f64>() / rank.len().max(1) as f64;
    let before = middle(items);
    let mut moved = false;
    for pair in rank.windows(2) {
        let (a, b) = (items[pair[0] as usize], &mut items[pair[1] as usize]);
        let least = a.x + distance(&a, b);
        if b.x < least - 1e-6 {
            (b.x, moved) = (least, true);
        }
    }
    if moved {
        let shift = middle(items) - before;
        rank.iter().for_each(|&i| items[i as usize].x -= shift);
    }
}

/// Puts separate parts beside each other, in rows.
fn pack(parts: &[Part], sizes: &[Point], direction: Direction, layout: &mut Layout) {
    let area: f64 = sizes.iter().map(|(w, h)| (w + PART_GAP) * (h + PART_GAP)).sum();
    let widest = sizes.iter().map(|s| s.0).fold(0.0, f64::max);
    let most = (area * 1.6).sqrt().max(widest).max(900.0);
    let (mut x, mut y, mut high) = (0.0, 0.0, 0.0_f64);
    let mut corners = Vec::with_capacity(parts.len());
    for &(w, h) in sizes {
        if x > 0.0 && x + w > most {
            (x, y, high) = (0.0, y + high + PART_GAP, 0.0);
        }
        corners.push((x, y));
        (x, high) = (x + w + PART_GAP, high.max(h));
        layout.size.0 = layout.size.0.max(x - PART_GAP);
    }
    layout.size.1 = y + high;
    for ((part, size), (x, y)) in parts.iter().zip(sizes).zip(corners) {
        // Where data flows up all is turned over later: so that the first row is on top then, it comes last here.
        let y = match direction {
            Direction::Up => layout.size.1 - y - size.1,
            Direction::Right => y,
        };
        for &vertex in &part.vertices {
            let place = &mut layout.places[vertex as usize];
            *place = (place.0 + x, place.1 + y);
        }
        for &edge in &part.edges {
            layout.routes[edge as usize].iter_mut().for_each(|point| *point = (point.0 + x, point.1 + y));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(vertices: usize) -> Vec<Point> {
        vec![(44.0, 44.0); vertices]
    }

    /// No two vertices overlap, all are inside, and edges lead upwards.
    fn check(sizes: &[Point], edges: &[(u32, u32)]) -> Layout {
        let layout = layout(sizes, edges, Direction::Up);
        let places = &layout.places;
        for (i, a) in places.iter().enumerate() {
            let (w, h) = sizes[i];
            assert!(a.0 - w / 2.0 >= -0.01 && a.0 + w / 2.0 <= layout.size.0 + 0.01, "{a:?} in {:?}", layout.size);
            assert!(a.1 - h / 2.0 >= -0.01 && a.1 + h / 2.0 <= layout.size.1 + 0.01, "{a:?} in {:?}", layout.size);
            for (j, b) in places.iter().enumerate().skip(i + 1) {
                let apart = (a.0 - b.0).abs() >= (w + sizes[j].0) / 2.0 || (a.1 - b.1).abs() >= (h + sizes[j].1) / 2.0;
                assert!(apart, "{i} at {a:?} and {j} at {b:?}");
            }
        }
        for (&(tail, head), route) in edges.iter().zip(&layout.routes) {
            let ys = [places[tail as usize]].into_iter().chain(route.iter().copied()).chain([places[head as usize]]);
            assert!(ys.map(|p| p.1).is_sorted_by(|a, b| a > b), "{tail} to {head}");
        }
        layout
    }

    #[test]
    fn nothing_and_one_vertex() {
        assert_eq!(check(&[], &[]), Layout::default());
        assert_eq!(check(&[(50.0, 44.0)], &[]).size, (50.0, 44.0));
    }

    #[test]
    fn what_runs_first_stands_on_the_left() {
        let edges: Vec<(u32, u32)> = (0..9).map(|i| (i, 9)).collect();
        let sizes: Vec<Point> = (0..10).map(|i| (44.0 + 20.0 * f64::from(i % 2), 44.0)).collect();
        let layout = check(&sizes, &edges);
        assert!(layout.places[..9].is_sorted_by(|a, b| a.0 < b.0), "{layout:?}");
        // The user is in the middle of what it uses.
        assert!((layout.places[9].0 - layout.size.0 / 2.0).abs() < 40.0, "{layout:?}");
    }

    #[test]
    fn an_edge_that_passes_a_rank_runs_around_what_stands_there() {
        // 0 → 1 → 2 → 3, and 0 → 3.
        let layout = check(&same(4), &[(0, 1), (1, 2), (2, 3), (0, 3)]);
        assert_eq!(layout.routes.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 0, 2]);
        for point in &layout.routes[3] {
            assert!(layout.places.iter().all(|p| (p.0 - point.0).abs() > 22.0 || (p.1 - point.1).abs() > 22.0));
        }
    }

    #[test]
    fn graphs_of_many_shapes_do_not_overlap() {
        let mut random = 7_u64;
        let mut next = |n: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % n
        };
        for vertices in [2, 5, 20, 60, 150] {
            for density in 1..4 {
                let mut edges = Vec::new();
                for head in 1..vertices {
                    for _ in 0..next(density + 1) {
                        edges.push((next(head) as u32, head as u32));
                    }
                }
                edges.sort_unstable();
                edges.dedup();
                let sizes: Vec<Point> = (0..vertices).map(|_| (44.0 + next(100) as f64, 44.0)).collect();
                let first = check(&sizes, &edges);
                assert_eq!(first, layout(&sizes, &edges, Direction::Up), "the same each time");
            }
        }
    }

    #[test]
    fn a_long_chain_with_long_edges_is_bounded() {
        let n = 1500;
        let edges: Vec<(u32, u32)> = (1..n).flat_map(|i| [(i - 1, i), (i - 1, n)]).collect();
        let layout = layout(&same(n as usize + 1), &edges, Direction::Right);
        assert!(layout.size.0 > layout.size.1);
        assert!(layout.routes.iter().map(Vec::len).sum::<usize>() <= MOST_PASSING);
    }

    #[test]
    fn separate_parts_stand_in_rows() {
        let layout = check(&same(200), &[]);
        assert!(layout.size.0 < 2000.0 && layout.size.1 < 2000.0, "{:?}", layout.size);
        assert!(layout.places[0].1 <= layout.places[199].1, "the first row is on top");
    }
}
