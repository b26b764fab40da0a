// Simulation models of ECP5's block RAM and multiplier, of which yosys has none. They know what the chip and yosys' own
// mapping make of these primitives; any other use ends the simulation.

// 16,384 bits, with the ninth bits of bytes 18,432, behind two ports; each sees them as words of 1, 2, 4, 9 or 18 bits.
// Words of 36 bits take the data pins of both ports: port A writes them, port B reads them.
// What a port reads while the other writes it comes inverted, since the silicon promises nothing.
module DP16KD #(
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18, REGMODE_A = "NOREG", REGMODE_B = "NOREG",
    parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL", RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC",
    parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000", CLKAMUX = "CLKA", CLKBMUX = "CLKB", GSR = "DISABLED",
    parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0, INITVAL_05 = 0,
    INITVAL_06 = 0, INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0, INITVAL_0C = 0,
    INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0, INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0,
    INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0, INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0,
    INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0,
    INITVAL_22 = 0, INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0, INITVAL_28 = 0,
    INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0,
    INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0,
    INITVAL_37 = 0, INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0, INITVAL_3C = 0, INITVAL_3D = 0,
    INITVAL_3E = 0, INITVAL_3F = 0
) (
    input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8, DIA9, DIA10, DIA11, DIA12, DIA13, DIA14, DIA15, DIA16,
    DIA17,
    input ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
    input CSA0, CSA1, CSA2, CLKA, CEA, OCEA, WEA, RSTA,
    output DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8, DOA9, DOA10, DOA11, DOA12, DOA13, DOA14, DOA15,
    DOA16, DOA17,
    input DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8, DIB9, DIB10, DIB11, DIB12, DIB13, DIB14, DIB15, DIB16,
    DIB17,
    input ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
    input CSB0, CSB1, CSB2, CLKB, CEB, OCEB, WEB, RSTB,
    output DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8, DOB9, DOB10, DOB11, DOB12, DOB13, DOB14, DOB15,
    DOB16, DOB17
);
    function known(input integer width, input wide);
        known = width == 1 || width == 2 || width == 4 || width == 9 || width == 18 || (wide && width == 36);
    endfunction

    initial begin
        // Words of 36 bits are written by A or read by B; their output register would be that of both ports.
        if (!known(DATA_WIDTH_A, 1) || !known(DATA_WIDTH_B, REGMODE_A == "NOREG" && REGMODE_B == "NOREG"))
            $fatal(1, "DP16KD: DATA_WIDTH_A = %0d, DATA_WIDTH_B = %0d", DATA_WIDTH_A, DATA_WIDTH_B);
        if (REGMODE_A != "NOREG" && REGMODE_A != "OUTREG" || REGMODE_B != "NOREG" && REGMODE_B != "OUTREG")
            $fatal(1, "DP16KD: REGMODE_A = %s, REGMODE_B = %s", REGMODE_A, REGMODE_B);
        if (WRITEMODE_A != "NORMAL" && WRITEMODE_A != "WRITETHROUGH" && WRITEMODE_A != "READBEFOREWRITE")
            $fatal(1, "DP16KD: WRITEMODE_A = %s", WRITEMODE_A);
        if (WRITEMODE_B != "NORMAL" && WRITEMODE_B != "WRITETHROUGH" && WRITEMODE_B != "READBEFOREWRITE")
            $fatal(1, "DP16KD: WRITEMODE_B = %s", WRITEMODE_B);
        if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000")
            $fatal(1, "DP16KD: CSDECODE_A = %s, CSDECODE_B = %s", CSDECODE_A, CSDECODE_B);
        if (CLKAMUX != "CLKA" || CLKBMUX != "CLKB")
            $fatal(1, "DP16KD: CLKAMUX = %s, CLKBMUX = %s", CLKAMUX, CLKBMUX);
    end
    always @(*) if (RESETMODE != "SYNC" && (RSTA || RSTB)) $fatal(1, "DP16KD: RESETMODE = %s", RESETMODE);

    wire [13:0] ada = {
        ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0
    };
    wire [13:0] adb = {
        ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0
    };
    wire [17:0] dia = {
        DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1,
        DIA0
    };
    wire [17:0] dib = {
        DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1,
        DIB0
    };

    // Pairs of 18 bits, for the words of 36.
    reg [35:0] memory [0:511];

    // The initial values lie 16 x 18 bits in every 320, 20 for each 18.
    wire [64*320-1:0] initial_values = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38, INITVAL_37,
        INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E,
        INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25,
        INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C,
        INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13,
        INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A,
        INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01,
        INITVAL_00
    };
    integer pair;
    initial
        for (pair = 0; pair < 512; pair = pair + 1)
            memory[pair] = {initial_values[40 * pair + 20 +: 18], initial_values[40 * pair +: 18]};

    // Where a word starts in its pair. Addresses count bits without the ninth of each byte, which only words of
    // 9 bits and more have.
    function [5:0] start(input integer width, input [4:0] address);
        start = width == 36 ? 0 : (address[4] ? 18 : 0) + (width == 18 ? 0 : (address[3] ? 9 : 0)
            + (width == 9 ? 0 : width == 4 ? address[2] * 4 : width == 2 ? address[2:1] * 2 : address[2:0]));
    endfunction

    function [35:0] ones(input integer width);
        ones = {36{1'b1}} >> (36 - width);
    endfunction

    // The lowest address bits of words with several bytes enable those to be written.
    function [35:0] enabled(input integer width, input [3:0] bytes);
        enabled = width < 18 ? ones(width) : {{9{bytes[3]}}, {9{bytes[2]}}, {9{bytes[1]}}, {9{bytes[0]}}} & ones(width);
    endfunction

    wire selected_a = CEA && {CSA2, CSA1, CSA0} == 0;
    wire selected_b = CEB && {CSB2, CSB1, CSB0} == 0;
    wire write_a = selected_a && WEA && !RSTA;
    wire write_b = selected_b && WEB && !RSTB;
    wire [5:0] start_a = start(DATA_WIDTH_A, ada[4:0]);
    wire [5:0] start_b = start(DATA_WIDTH_B, adb[4:0]);
    wire [35:0] mask_a = write_a ? enabled(DATA_WIDTH_A, ada[3:0]) << start_a : 0;
    wire [35:0] mask_b = write_b ? enabled(DATA_WIDTH_B, adb[3:0]) << start_b : 0;
    wire [35:0] write_data_a = {dib, dia} << start_a;
    wire [35:0] write_data_b = {18'b0, dib} << start_b;
    wire same_pair = ada[13:5] == adb[13:5];

    reg [35:0] before_a, before_b, after_a, after_b, read_a, read_b;
    reg [35:0] latch_a, latch_b;
    reg [17:0] register_a, register_b;
    always @(posedge CLKA) begin
        if (CEB && !CLKB) $fatal(1, "DP16KD: CLKA and CLKB are different clocks");
        before_a = memory[ada[13:5]];
        before_b = memory[adb[13:5]];
        after_a = before_a & ~mask_a | write_data_a & mask_a;
        after_b = before_b & ~mask_b | write_data_b & mask_b;
        if (write_b) memory[adb[13:5]] = after_b;
        if (write_a) memory[ada[13:5]] = memory[ada[13:5]] & ~mask_a | write_data_a & mask_a;

        read_a = (write_a && WRITEMODE_A == "WRITETHROUGH" ? after_a : before_a) ^ (same_pair ? mask_b : 0);
        read_b = (write_b && WRITEMODE_B == "WRITETHROUGH" ? after_b : before_b) ^ (same_pair ? mask_a : 0);
        if (OCEA) register_a <= latch_a[17:0];
        if (OCEB) register_b <= latch_b[17:0];
        // In NORMAL mode a write leaves the output as it was.
        if (selected_a && !(write_a && WRITEMODE_A == "NORMAL")) latch_a <= read_a >> start_a & ones(DATA_WIDTH_A);
        if (selected_b && !(write_b && WRITEMODE_B == "NORMAL")) latch_b <= read_b >> start_b & ones(DATA_WIDTH_B);
        if (RSTA) begin
            latch_a <= 0;
            register_a <= 0;
        end
        if (RSTB) begin
            latch_b <= 0;
            register_b <= 0;
        end
    end

    wire [17:0] doa = DATA_WIDTH_B == 36 ? latch_b[17:0] : REGMODE_A == "OUTREG" ? register_a : latch_a[17:0];
    wire [17:0] dob = DATA_WIDTH_B == 36 ? latch_b[35:18] : REGMODE_B == "OUTREG" ? register_b : latch_b[17:0];
    assign {
        DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1,
        DOA0
    } = doa;
    assign {
        DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1,
        DOB0
    } = dob;
endmodule

// P = A * B, each signed or not, with registers before and behind on CLK0 or without.
module MULT18X18D #(
    parameter REG_INPUTA_CLK = "NONE", REG_INPUTA_CE = "CE0", REG_INPUTA_RST = "RST0",
    parameter REG_INPUTB_CLK = "NONE", REG_INPUTB_CE = "CE0", REG_INPUTB_RST = "RST0",
    parameter REG_OUTPUT_CLK = "NONE", REG_OUTPUT_CE = "CE0", REG_OUTPUT_RST = "RST0",
    parameter RESETMODE = "SYNC", GSR = "DISABLED"
) (
    input A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12, A13, A14, A15, A16, A17,
    input B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15, B16, B17,
    input C0, C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13, C14, C15, C16, C17,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input CLK0, CLK1, CLK2, CLK3, CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3,
    output P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12, P13, P14, P15, P16, P17, P18, P19, P20, P21, P22,
    P23, P24, P25, P26, P27, P28, P29, P30, P31, P32, P33, P34, P35
);
    function known(input [8*4-1:0] clock, input [8*4-1:0] enable, input [8*4-1:0] reset);
        known = clock == "NONE" || (clock == "CLK0" && enable == "CE0" && reset == "RST0");
    endfunction

    initial begin
        if (!known(REG_INPUTA_CLK, REG_INPUTA_CE, REG_INPUTA_RST))
            $fatal(1, "MULT18X18D: REG_INPUTA = %s %s %s", REG_INPUTA_CLK, REG_INPUTA_CE, REG_INPUTA_RST);
        if (!known(REG_INPUTB_CLK, REG_INPUTB_CE, REG_INPUTB_RST))
            $fatal(1, "MULT18X18D: REG_INPUTB = %s %s %s", REG_INPUTB_CLK, REG_INPUTB_CE, REG_INPUTB_RST);
        if (!known(REG_OUTPUT_CLK, REG_OUTPUT_CE, REG_OUTPUT_RST))
            $fatal(1, "MULT18X18D: REG_OUTPUT = %s %s %s", REG_OUTPUT_CLK, REG_OUTPUT_CE, REG_OUTPUT_RST);
        if (RESETMODE != "SYNC") $fatal(1, "MULT18X18D: RESETMODE = %s", RESETMODE);
    end
    always @(*) if (SOURCEA || SOURCEB) $fatal(1, "MULT18X18D: SOURCEA = %b, SOURCEB = %b", SOURCEA, SOURCEB);

    wire [17:0] a = {
        A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0
    };
    wire [17:0] b = {
        B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0
    };
    reg [17:0] register_a, register_b;
    reg [35:0] register_p;
    wire [17:0] used_a = REG_INPUTA_CLK == "NONE" ? a : register_a;
    wire [17:0] used_b = REG_INPUTB_CLK == "NONE" ? b : register_b;
    wire signed [35:0] wide_a = {{18{SIGNEDA & used_a[17]}}, used_a};
    wire signed [35:0] wide_b = {{18{SIGNEDB & used_b[17]}}, used_b};
    wire [35:0] product = wide_a * wide_b;
    always @(posedge CLK0)
        if (RST0) begin
            register_a <= 0;
            register_b <= 0;
            register_p <= 0;
        end else if (CE0) begin
            register_a <= a;
            register_b <= b;
            register_p <= product;
        end
    wire [35:0] p = REG_OUTPUT_CLK == "NONE" ? product : register_p;
    assign {
        P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14,
        P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
    } = p;
endmodule
