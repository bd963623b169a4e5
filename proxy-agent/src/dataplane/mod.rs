// SPDX-License-Identifier: Apache-2.0
//! What carries out operations on the tables.
