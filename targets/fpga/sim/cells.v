// Models of the cells of an ECP5 that Yosys makes netlists of: our own, for Verilator, of what optc's netlists
// use, after Lattice's FPGA-TN-02204 (memory), FPGA-TN-02205 (multipliers) and FPGA-DS-02012 (logic cells).
// What a model does not cover stops the simulation at its start.

module LUT4(input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  wire [7:0] d = D ? INIT[15:8] : INIT[7:0];
  wire [3:0] c = C ? d[7:4] : d[3:0];
  wire [1:0] b = B ? c[3:2] : c[1:0];
  assign Z = A ? b[1] : b[0];
endmodule

module PFUMX(input ALUT, BLUT, C0, output Z);
  assign Z = C0 ? ALUT : BLUT;
endmodule

module L6MUX21(input D0, D1, SD, output Z);
  assign Z = SD ? D1 : D0;
endmodule

// Two bits of a carry chain: each a LUT of four inputs whose output is added to the carry; without INJECT, the
// LUT's lower half says what the carry becomes where the sum does not pass it on.
module CCU2C(input CIN, A0, B0, C0, D0, A1, B1, C1, D1, output S0, S1, COUT);
  parameter [15:0] INIT0 = 0, INIT1 = 0;
  parameter INJECT1_0 = "YES", INJECT1_1 = "YES";
  wire sum0, sum1;
  LUT4 #(.INIT(INIT0)) first(.A(A0), .B(B0), .C(C0), .D(D0), .Z(sum0));
  LUT4 #(.INIT(INIT1)) second(.A(A1), .B(B1), .C(C1), .D(D1), .Z(sum1));
  wire make0 = INJECT1_0 == "NO" && INIT0[{2'b00, B0, A0}];
  wire make1 = INJECT1_1 == "NO" && INIT1[{2'b00, B1, A1}];
  wire carry = sum0 ? CIN : make0;
  assign S0 = sum0 ^ (INJECT1_0 == "NO" && CIN);
  assign S1 = sum1 ^ (INJECT1_1 == "NO" && carry);
  assign COUT = sum1 ? carry : make1;
endmodule

module TRELLIS_FF(input CLK, CE, LSR, DI, M, output reg Q);
  parameter GSR = "ENABLED", CEMUX = "1", CLKMUX = "CLK", LSRMUX = "LSR", LSRONMUX = "LSRMUX";
  parameter REGSET = "RESET", SRMODE = "LSR_OVER_CE";
  localparam VALUE = REGSET == "SET";
  initial Q = VALUE;
  initial if (CLKMUX != "CLK" || LSRMUX != "LSR") $fatal(1, "TRELLIS_FF: a mode without a model");
  wire enable = CEMUX == "1" ? 1'b1 : CEMUX == "INV" ? !CE : CE;
  generate
    if (SRMODE == "ASYNC") begin
      always @(posedge CLK or posedge LSR) if (LSR) Q <= VALUE; else if (enable) Q <= DI;
    end else begin
      always @(posedge CLK) if (LSR) Q <= VALUE; else if (enable) Q <= DI;
    end
  endgenerate
endmodule

// Sixteen words of four bits: written at the clock, read at once.
module TRELLIS_DPR16X4(input [3:0] DI, WAD, RAD, input WRE, WCK, output [3:0] DO);
  parameter WCKMUX = "WCK", WREMUX = "WRE";
  parameter [63:0] INITVAL = 0;
  initial if (WCKMUX != "WCK" || WREMUX != "WRE") $fatal(1, "TRELLIS_DPR16X4: a mode without a model");
  reg [3:0] memory [0:15];
  integer i;
  initial for (i = 0; i < 16; i = i + 1) memory[i] = INITVAL[4 * i +: 4];
  always @(posedge WCK) if (WRE) memory[WAD] <= DI;
  assign DO = memory[RAD];
endmodule

// 18 by 18 bits, without its registers.
module MULT18X18D(
  input A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12, A13, A14, A15, A16, A17, B0, B1, B2, B3,
    B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15, B16, B17,
  input C0, C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13, C14, C15, C16, C17,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input CLK0, CLK1, CLK2, CLK3, CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3,
  output P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12, P13, P14, P15, P16, P17, P18, P19, P20,
    P21, P22, P23, P24, P25, P26, P27, P28, P29, P30, P31, P32, P33, P34, P35
);
  parameter REG_INPUTA_CLK = "NONE", REG_INPUTB_CLK = "NONE", REG_PIPELINE_CLK = "NONE", REG_OUTPUT_CLK = "NONE";
  initial
    if (REG_INPUTA_CLK != "NONE" || REG_INPUTB_CLK != "NONE" || REG_PIPELINE_CLK != "NONE" ||
        REG_OUTPUT_CLK != "NONE" || SOURCEA || SOURCEB)
      $fatal(1, "MULT18X18D: a mode without a model");
  wire [17:0] a = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
  wire [17:0] b = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
  wire signed [18:0] x = {SIGNEDA & a[17], a}, y = {SIGNEDB & b[17], b};
  wire signed [37:0] product = x * y;
  assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16,
      P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = product[35:0];
endmodule

// 18 kibit: port A writes and port B reads words of 2, 4, 9, 18 or 36 bits (then both ports' data pins are one
// word's). A word that is read in the cycle in which it is written comes out inverted: the data sheet promises
// nothing, and nothing may depend on it.
module DP16KD(
  input CLKA, CLKB, CEA, CEB, OCEA, OCEB, WEA, WEB, RSTA, RSTB, CSA0, CSA1, CSA2, CSB0, CSB1, CSB2,
  input ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13, ADB0,
    ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
  input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8, DIA9, DIA10, DIA11, DIA12, DIA13, DIA14,
    DIA15, DIA16, DIA17, DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8, DIB9, DIB10, DIB11,
    DIB12, DIB13, DIB14, DIB15, DIB16, DIB17,
  output DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8, DOA9, DOA10, DOA11, DOA12, DOA13, DOA14,
    DOA15, DOA16, DOA17, DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8, DOB9, DOB10, DOB11,
    DOB12, DOB13, DOB14, DOB15, DOB16, DOB17
);
  parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18;
  parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG", RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC";
  parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000", WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL";
  parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB", GSR = "ENABLED";
  parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0;
  parameter [319:0] INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0;
  parameter [319:0] INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0;
  parameter [319:0] INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0;
  parameter [319:0] INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0;
  parameter [319:0] INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0;
  parameter [319:0] INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0;
  parameter [319:0] INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0;
  parameter [319:0] INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0;
  parameter [319:0] INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0;
  parameter [319:0] INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0;
  parameter [319:0] INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0;
  parameter [319:0] INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0;
  parameter [319:0] INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0;
  parameter [319:0] INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0;
  parameter [319:0] INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0;
  initial
    if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || CSDECODE_A != "0b000" || CSDECODE_B != "0b000" ||
        CLKAMUX != "CLKA" || CLKBMUX != "CLKB" || DATA_WIDTH_A != DATA_WIDTH_B || DATA_WIDTH_A == 1 || WEB ||
        RSTA || RSTB)
      $fatal(1, "DP16KD: a mode without a model");
  localparam WIDTH = DATA_WIDTH_A, BYTES = WIDTH < 9 ? 1 : WIDTH / 9;
  localparam SHIFT = WIDTH == 2 ? 1 : WIDTH == 4 ? 2 : WIDTH == 9 ? 3 : WIDTH == 18 ? 4 : 5;
  wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire [13:0] adb = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire [35:0] data = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3,
      DIB2, DIB1, DIB0, DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6,
      DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
  wire writes = CEA && WEA && !CSA0 && !CSA1 && !CSA2, reads = CEB && !CSB0 && !CSB1 && !CSB2;
  wire [3:0] enable = ada[3:0];  // of words of more than a byte
  wire [13 - SHIFT:0] write_index = ada[13:SHIFT], read_index = adb[13:SHIFT];
  reg [WIDTH - 1:0] memory [0:(1 << (14 - SHIFT)) - 1];
  reg [WIDTH - 1:0] value = 0;
  localparam [20479:0] INIT = {INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38,
      INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30,
      INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
      INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20,
      INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18,
      INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
      INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
      INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};
  // Of 20 bits of INITVAL, 18 are used; of nine of these, words of 2 and 4 bits use eight.
  integer i, j, place;
  initial
    for (i = 0; i < (1 << (14 - SHIFT)); i = i + 1)
      for (j = 0; j < WIDTH; j = j + 1) begin
        place = i * WIDTH + j;
        if (WIDTH < 9) place = place / 8 * 9 + place % 8;
        memory[i][j] = INIT[place / 18 * 20 + place % 18];
      end
  wire collides = writes && write_index == read_index;
  integer k;
  generate
    if (BYTES == 1) begin
      always @(posedge CLKA) if (writes) memory[write_index] <= data[WIDTH - 1:0];
      always @(posedge CLKB) if (reads) value <= memory[read_index] ^ {WIDTH{collides}};
    end else begin
      always @(posedge CLKA)
        if (writes)
          for (k = 0; k < BYTES; k = k + 1)
            if (enable[k]) memory[write_index][9 * k +: 9] <= data[9 * k +: 9];
      wire [35:0] flips = {{9{enable[3]}}, {9{enable[2]}}, {9{enable[1]}}, {9{enable[0]}}};
      always @(posedge CLKB) if (reads) value <= memory[read_index] ^ (collides ? flips[WIDTH - 1:0] : 0);
    end
  endgenerate
  wire [35:0] out = {{(36 - WIDTH){1'b0}}, value};
  // Words of 36 bits come out at A and B, others at the port that reads.
  wire [17:0] low = out[17:0], high = WIDTH == 36 ? out[35:18] : low;
  assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3,
      DOA2, DOA1, DOA0} = low;
  assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3,
      DOB2, DOB1, DOB0} = high;
endmodule
