// ldmatrix and movmatrix. ldmatrix loads 1, 2 or 4 matrices of 8 x 8 16-bit elements from shared memory. Lane 8 m + r
// gives the address of row r of matrix m. Lane l gets elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4, or with .trans
// of column l / 4. Several lanes get parts of a row, so earlier writes to it must be ordered before the read of the
// whole warp.
#include <cstring>

#include "sim/ptx/addresses.h"
#include "sim/ptx/lanes.h"
#include "sim/ptx/matrix.h"
#include "sim/ptx/shared_memory.h"
#include "sim/ptx/statistics.h"

namespace sim::ptx {

namespace {

/// Bits of Instruction::target.
constexpr std::uint32_t kTransposed = 1, kGeneric = 2;

/// Turns generic addresses into offsets of shared memory.
void leave_window(Warp& warp, Access& access) {
    for (unsigned l = 0; l < kLanes; ++l) {
        if (!(access.lanes >> l & 1)) continue;
        if (space_of(access.at[l]) != Space::shared)
            fault(warp, 1u << l, "ldmatrix reads shared memory only, and this generic address is not in shared memory");
        access.at[l] &= ~kWindowMask;
    }
}

void load_matrices(Warp& warp, const Instruction& i, Lanes) {
    Access access;
    access.lanes = i.count == 4 ? kAll : (1u << 8 * i.count) - 1;
    access.bytes = 16;
    find_addresses(warp, i, access);
    if (i.target & kGeneric) leave_window(warp, access);
    check_matrix_rows(warp, access);
    const Row* rows = &warp.block->kernel->lists[i.list];
    for (unsigned m = 0; m < i.count; ++m) {
        std::uint16_t matrix[8][8];
        for (unsigned r = 0; r < 8; ++r)
            std::memcpy(matrix[r], reinterpret_cast<const void*>(access.at[8 * m + r]), 16);
        auto* d = row<std::uint32_t>(warp, rows[m]);
        if (i.target & kTransposed) {
            for (unsigned l = 0; l < kLanes; ++l)
                d[l] = std::uint32_t{matrix[2 * (l % 4)][l / 4]} | std::uint32_t{matrix[2 * (l % 4) + 1][l / 4]} << 16;
        } else {
            std::memcpy(d, matrix, sizeof matrix);
        }
        mark(d, kAll, kAll);
    }
}

void decode_ldmatrix(Decoder& d) {
    if (!d.take("sync") || !d.take("aligned")) d.fail("ldmatrix needs .sync.aligned");
    if (!d.take("m8n8")) d.fail("ldmatrix is known as .m8n8 only");
    const std::string_view number = d.take_any({"x1", "x2", "x4"});
    d.out.target = d.take("trans") ? kTransposed : 0;
    if (!d.take("shared") && !d.take("shared::cta")) d.out.target |= kGeneric;
    const Type type = d.need_type();
    if (number.empty() || type != Type::b16) d.fail_type(type);
    d.expect_operands(2);
    d.address(1);
    const std::vector<Row> rows = d.rows(d.operands[0], Type::b32, true);
    if (rows.size() != static_cast<std::size_t>(number[1] - '0')) d.fail("too few or too many registers");
    d.out.count = static_cast<std::uint8_t>(rows.size());
    d.out.list = d.list(rows);
    d.out.control = Control::collective;
    d.out.run = &load_matrices;
}

/// movmatrix: transposes the fragment of 8 x 8 halves that the lanes hold.
void transpose(Warp& warp, const Instruction& i, Lanes) {
    const auto* a = row<std::uint32_t>(warp, i.a);
    if (~written(a)) fault(warp, ~written(a), "a fragment was never written");
    std::uint16_t matrix[8][8];
    std::memcpy(matrix, a, sizeof matrix);
    auto* d = row<std::uint32_t>(warp, i.d);
    for (unsigned l = 0; l < kLanes; ++l)
        d[l] = std::uint32_t{matrix[2 * (l % 4)][l / 4]} | std::uint32_t{matrix[2 * (l % 4) + 1][l / 4]} << 16;
    mark(d, kAll, kAll);
}

void decode_movmatrix(Decoder& d) {
    if (!d.take("sync") || !d.take("aligned") || !d.take("m8n8") || !d.take("trans"))
        d.fail("movmatrix needs .sync.aligned.m8n8.trans");
    if (d.need_type() != Type::b16) d.fail("movmatrix is known for .b16");
    d.expect_operands(2);
    d.out.run = &transpose;
    d.out.control = Control::collective;
    d.out.d = d.target(0, Type::b32), d.out.a = d.source(1, Type::b32);
}

}  // namespace

void add_ldmatrix_operations(Operations& operations) {
    operations["ldmatrix"] = &decode_ldmatrix;
    operations["movmatrix"] = &decode_movmatrix;
}

}  // namespace sim::ptx
