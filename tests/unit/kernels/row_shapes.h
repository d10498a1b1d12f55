// Shapes of matrices whose rows end at every place around the packs of 4 or 8 elements that devices take at once.
// Shared by row_ends_test.cpp and row_ends_of_layers_test.cpp. No tests here.
#pragma once

#include <cstdint>
#include <vector>

#include "core/dtype.h"

namespace longlora::kernel_testing {

constexpr DType kRealTypes[] = {DType::float32, DType::bfloat16};

struct RowShape {
    std::int64_t rows, width, padding;  ///< padding: elements between rows
};

/// Rows that begin at multiples of 16 elements with padding between them, rows that begin at odd elements, and rows
/// without padding. Some narrow matrices have more rows than a block takes.
inline std::vector<RowShape> row_shapes() {
    std::vector<RowShape> shapes;
    for (const std::int64_t width : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 64}) {
        shapes.push_back({3, width, 32 - width % 16});
        shapes.push_back({3, width, 1 + width % 2});
        shapes.push_back({1, width, 0});
    }
    for (const std::int64_t width : {3, 7, 8, 64})
        shapes.push_back({301, width, 32 - width % 16}), shapes.push_back({301, width, 1 + width % 2});
    shapes.push_back({4, 9, 2}), shapes.push_back({20, 400, 0}), shapes.push_back({2, 1031, 9}),
        shapes.push_back({2, 8200, 8}), shapes.push_back({1, 8207, 0});
    return shapes;
}

}  // namespace longlora::kernel_testing
