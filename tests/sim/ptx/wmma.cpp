// wmma.load, wmma.mma and wmma.store of f16 and bf16 matrices with f32 or f16 sums. The PTX ISA does not say which lane
// holds which element, so this file decides: element number s of a matrix, counted row by row, is slot s of the lanes'
// registers, counted lane by lane. If there are more slots than elements, the elements repeat. A program that relies on
// the places that some GPU uses is not noticed. Memory is touched in pieces of 16 bytes; the whole warp reads each
// piece, as for ldmatrix.
#include <algorithm>
#include <cstring>

#include "sim/ptx/addresses.h"
#include "sim/ptx/float_bits.h"
#include "sim/ptx/lanes.h"
#include "sim/ptx/matrix.h"

namespace sim::ptx {

namespace {

struct Shape {
    unsigned m = 0, n = 0, k = 16;
};

/// A matrix and the registers that hold it. by_column: its memory is column-major.
struct Tile {
    std::uint32_t rows = 0, columns = 0, registers = 0;
    bool f32 = false, by_column = false;

    unsigned bytes() const { return f32 ? 4 : 2; }
    unsigned elements() const { return rows * columns; }
    unsigned inner() const { return by_column ? rows : columns; }
    unsigned outer() const { return by_column ? columns : rows; }
    /// The elements that a lane holds.
    unsigned slots() const { return registers * 4 / bytes(); }
};

/// Packs a tile and its state space into Instruction::target.
std::uint32_t packed(const Tile& tile, Space space) {
    return tile.rows | tile.columns << 6 | tile.registers << 12 | std::uint32_t{tile.f32} << 16 |
           std::uint32_t{tile.by_column} << 17 | static_cast<std::uint32_t>(space) << 20;
}
Tile tile_of(std::uint32_t target) {
    return {target & 63, target >> 6 & 63, target >> 12 & 15, (target >> 16 & 1) != 0, (target >> 17 & 1) != 0};
}

/// Copies registers into a matrix, row by row.
void gather(Warp& warp, const Row* registers, const Tile& tile, std::byte* matrix) {
    for (unsigned r = 0; r < tile.registers; ++r)
        if (const Lanes unknown = ~written(row<std::uint32_t>(warp, registers[r])))
            fault(warp, unknown, "a fragment was never written");
    for (unsigned s = 0; s < tile.elements(); ++s) {
        const unsigned lane = s / tile.slots(), at = s % tile.slots() * tile.bytes();
        std::memcpy(matrix + s * tile.bytes(),
                    reinterpret_cast<const std::byte*>(row<std::uint32_t>(warp, registers[at / 4]) + lane) + at % 4,
                    tile.bytes());
    }
}

void scatter(Warp& warp, const Row* registers, const Tile& tile, const std::byte* matrix) {
    for (unsigned s = 0; s < kLanes * tile.slots(); ++s) {
        const unsigned lane = s / tile.slots(), at = s % tile.slots() * tile.bytes();
        std::memcpy(reinterpret_cast<std::byte*>(row<std::uint32_t>(warp, registers[at / 4]) + lane) + at % 4,
                    matrix + s % tile.elements() * tile.bytes(), tile.bytes());
    }
    for (unsigned r = 0; r < tile.registers; ++r) mark(row<std::uint32_t>(warp, registers[r]), kAll, kAll);
}

/// Where a matrix lies; address and stride must be the same in all lanes.
struct Memory {
    std::uint64_t begin = 0, stride = 0;
};
Memory memory_of(Warp& warp, const Instruction& i, const Tile& tile) {
    Access access;
    access.lanes = kAll, access.bytes = 16;
    find_addresses(warp, i, access);
    const auto* stride = row<std::uint32_t>(warp, i.b);
    if (~written(stride)) fault(warp, ~written(stride), "the stride was never written");
    for (unsigned l = 1; l < kLanes; ++l)
        if (access.at[l] != access.at[0] || stride[l] != stride[0])
            fault(warp, 1u << l, "the lanes differ in the address or in the stride of a matrix");
    return {access.at[0], std::uint64_t{stride[0]} * tile.bytes()};
}

/// Calls f(place in memory, piece) for each checked piece of 16 bytes. Pieces are numbered in memory's own order.
template <class F> void for_pieces(Warp& warp, const Instruction& i, const Tile& tile, Use use, F f) {
    const Memory memory = memory_of(warp, i, tile);
    const unsigned in_line = tile.inner() * tile.bytes() / 16, total = tile.outer() * in_line;
    for (unsigned first = 0; first < total; first += kLanes) {
        Access access;
        access.bytes = 16;
        const unsigned number = std::min(kLanes, total - first);
        access.lanes = number == kLanes ? kAll : (1u << number) - 1;
        for (unsigned p = 0; p < number; ++p)
            access.at[p] = memory.begin + (first + p) / in_line * memory.stride + (first + p) % in_line * 16;
        Space space = static_cast<Space>(i.target >> 20);
        if (space == Space::generic) space = space_of(access.at[0]);
        if (space == Space::shared)
            for (unsigned p = 0; p < number; ++p) access.at[p] &= ~kWindowMask;
        if (space == Space::shared && use == Use::read) {
            check_matrix_rows(warp, access);
        } else {
            Instruction plain = i;
            plain.target = 0;
            check_access(warp, plain, access, space, use);
        }
        for (unsigned p = 0; p < number; ++p) f(reinterpret_cast<std::byte*>(access.at[p]), first + p);
    }
}

/// Copies a matrix from memory's order to row-major order, or back if into_memory.
void turn(const Tile& tile, const std::byte* from, std::byte* to, bool into_memory) {
    for (unsigned r = 0; r < tile.rows; ++r)
        for (unsigned c = 0; c < tile.columns; ++c) {
            const unsigned by_row = r * tile.columns + c, in_memory = tile.by_column ? c * tile.rows + r : by_row;
            std::memcpy(to + (into_memory ? in_memory : by_row) * tile.bytes(),
                        from + (into_memory ? by_row : in_memory) * tile.bytes(), tile.bytes());
        }
}

constexpr unsigned kMostBytes = 32 * 32 * 4;

void load_matrix(Warp& warp, const Instruction& i, Lanes) {
    const Tile tile = tile_of(i.target);
    std::byte read[kMostBytes], matrix[kMostBytes];
    for_pieces(warp, i, tile, Use::read,
               [&](const std::byte* place, unsigned piece) { std::memcpy(read + 16 * piece, place, 16); });
    turn(tile, read, matrix, false);
    scatter(warp, &warp.block->kernel->lists[i.list], tile, matrix);
}

void store_matrix(Warp& warp, const Instruction& i, Lanes) {
    const Tile tile = tile_of(i.target);
    std::byte written[kMostBytes], matrix[kMostBytes];
    gather(warp, &warp.block->kernel->lists[i.list], tile, matrix);
    turn(tile, matrix, written, true);
    for_pieces(warp, i, tile, Use::write,
               [&](std::byte* place, unsigned piece) { std::memcpy(place, written + 16 * piece, 16); });
}

/// Elements of a matrix as floats.
template <class Half> void widen(const std::byte* matrix, const Tile& tile, float* to) {
    for (unsigned s = 0; s < tile.elements(); ++s) {
        if (tile.f32) {
            std::memcpy(to + s, matrix + 4 * s, 4);
        } else {
            std::uint16_t half;
            std::memcpy(&half, matrix + 2 * s, 2);
            to[s] = Half::widen(half);
        }
    }
}

/// target: packed D, with the shape's m and n; count: registers of A; e: registers of B and whether C is f32. The rows
/// of D, A, B and C follow one another.
template <class Half> void multiply(Warp& warp, const Instruction& i, Lanes) {
    const Tile d = tile_of(i.target), a{d.rows, 16, i.count}, b{16, d.columns, i.e & 15},
               c{d.rows, d.columns, i.e >> 4 & 1 ? 8u : 4u, (i.e >> 4 & 1) != 0};
    const Row* rows = &warp.block->kernel->lists[i.list];
    std::byte matrix[kMostBytes];
    float left[32 * 16], right[16 * 32], sum[256];
    gather(warp, rows + d.registers, a, matrix);
    widen<Half>(matrix, a, left);
    gather(warp, rows + d.registers + a.registers, b, matrix);
    widen<Half>(matrix, b, right);
    gather(warp, rows + d.registers + a.registers + b.registers, c, matrix);
    widen<F16>(matrix, c, sum);
    for (unsigned r = 0; r < d.rows; ++r)
        for (unsigned n = 0; n < d.columns; ++n) {
            float& total = sum[r * d.columns + n];
            for (unsigned k = 0; k < 16; ++k) total = __builtin_fmaf(left[r * 16 + k], right[k * d.columns + n], total);
            if (total != total) total = kNan32;
        }
    for (unsigned s = 0; s < d.elements(); ++s) {
        const std::uint16_t half = F16::narrow(sum[s]);
        std::memcpy(matrix + s * d.bytes(), d.f32 ? static_cast<const void*>(sum + s) : &half, d.bytes());
    }
    scatter(warp, rows, d, matrix);
}

Shape shape_of(Decoder& d) {
    const std::string_view name = d.take_any({"m16n16k16", "m8n32k16", "m32n8k16"});
    if (name.empty()) d.fail("wmma of this shape is not known");
    return name == "m16n16k16" ? Shape{16, 16} : name == "m8n32k16" ? Shape{8, 32} : Shape{32, 8};
}

/// f16 fragments have eight registers in every shape; bf16 fragments have as many as they need.
unsigned registers_of(Type type, unsigned elements) { return type == Type::bf16 ? elements / 64 : 8; }

Tile sum_tile(const Decoder& d, const Shape& shape, Type type) {
    if (type != Type::f32 && type != Type::f16) d.fail_type(type);
    return {shape.m, shape.n, type == Type::f32 ? 8u : 4u, type == Type::f32, false};
}

void decode_transfer(Decoder& d, bool stores) {
    const std::string_view which = stores ? d.take_any({"d"}) : d.take_any({"a", "b", "c"});
    if (which.empty() || !d.take("sync") || !d.take("aligned")) d.fail("wmma needs a matrix and .sync.aligned");
    const std::string_view layout = d.take_any({"row", "col"});
    if (layout.empty()) d.fail("wmma needs .row or .col");
    const Shape shape = shape_of(d);
    const Space space = take_space(d);
    const Type type = d.need_type();
    Tile tile;
    if (which == "c" || which == "d") {
        tile = sum_tile(d, shape, type);
    } else {
        if (type != Type::f16 && type != Type::bf16) d.fail_type(type);
        tile = which == "a" ? Tile{shape.m, shape.k} : Tile{shape.k, shape.n};
        tile.registers = registers_of(type, tile.elements());
    }
    tile.by_column = layout == "col";
    d.expect_operands(2, 3);
    const std::size_t fragment = stores ? 1 : 0;
    const std::vector<Row> rows = d.rows(d.operands[fragment], type == Type::f32 ? Type::f32 : Type::b32, !stores);
    if (rows.size() != tile.registers) d.fail("a fragment has too few or too many registers");
    d.address(1 - fragment);
    d.out.list = d.list(rows);
    d.out.b = d.operands.size() == 3 ? d.source(2, Type::b32) : d.constant(tile.inner(), 4);
    d.out.target = packed(tile, space);
    d.out.run = stores ? &store_matrix : &load_matrix;
    d.out.control = Control::collective;
}

void decode_product(Decoder& d) {
    if (!d.take("sync") || !d.take("aligned")) d.fail("wmma needs .sync.aligned");
    for (int k = 0; k < 2; ++k)
        if (d.take_any({"row", "col"}).empty()) d.fail("wmma.mma needs two layouts");
    const Shape shape = shape_of(d);
    const Type sum = d.need_type(), second = d.need_type();
    Type element = Type::f16, before = second;
    if (second == Type::bf16) {
        element = d.need_type();
        before = d.need_type();
    }
    if (second == Type::bf16 && element != Type::bf16) d.fail_type(element);
    const Tile to = sum_tile(d, shape, sum), from = sum_tile(d, shape, before);
    const unsigned of_a = registers_of(element, shape.m * 16), of_b = registers_of(element, shape.n * 16),
                   expected[] = {to.registers, of_a, of_b, from.registers};
    d.expect_operands(4);
    std::vector<Row> all;
    for (std::size_t k = 0; k < 4; ++k) {
        const std::vector<Row> rows =
            d.rows(d.operands[k], (k == 0 && to.f32) || (k == 3 && from.f32) ? Type::f32 : Type::b32, k == 0);
        if (rows.size() != expected[k]) d.fail("a fragment has too few or too many registers");
        all.insert(all.end(), rows.begin(), rows.end());
    }
    d.out.list = d.list(all);
    d.out.target = packed(to, Space::generic);
    d.out.count = static_cast<std::uint8_t>(of_a);
    d.out.e = of_b | (from.f32 ? 16u : 0u);
    d.out.run = element == Type::bf16 ? &multiply<Bf16> : &multiply<F16>;
    d.out.control = Control::collective;
}

void decode_wmma(Decoder& d) {
    const std::string_view what = d.take_any({"load", "store", "mma"});
    if (what.empty()) d.fail("wmma is known as load, store and mma");
    what == "mma" ? decode_product(d) : decode_transfer(d, what == "store");
}

}  // namespace

void add_wmma_operations(Operations& operations) { operations["wmma"] = &decode_wmma; }

}  // namespace sim::ptx
