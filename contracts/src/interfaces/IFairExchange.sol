// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title IFairExchange
/// @notice Sell a model, or swap two, so that neither side can keep both the money and the goods.
/// @dev "Fair and autonomous sharing of federate learning models", IV: the sale (IV-B, Algorithm 1), the swap (IV-A), the
/// hand-over of the address (IV-C), the vote (IV-D) and the time limits T0, T1, T2, T3 and Tb (IV-E). Ids count from 1;
/// every id of an event is the first indexed parameter. Documents (the key message, the address message) are each one
/// raw IPFS block, named by its SHA-256 digest; they and the terms are in events only.
///
/// Each state gives each side a duty; the next begins once both have done theirs. Who lets the time of a state pass
/// without having done its duty forfeits its deposit to the other side. Where both did, both have it back.
///
///     state       limit  a sale: seller     buyer          a swap: both
///     Offered     T0     -                  join           (the buyer) join
///     Preparing   T1     prepare            pay            prepare
///     Keys        T2     -                  passKey        passKey
///     Addresses   T3     passAddress        -              passAddress
///     Inspecting  Tb     -                  confirm        confirm
///
/// Only in Offered nobody is at fault. A duty can be done before its state begins, in the order above: a side may
/// send several of its steps in one `multicall`. Where the paper says both that the deposits go back after Tb (IV-E) and
/// that a buyer who will not confirm loses its deposit (III-B), this follows the latter, without which nobody would
/// have a reason to confirm.
interface IFairExchange {
    /// @notice What is exchanged.
    enum Kind {
        Sale, // a model for money
        Swap // a model for a model
    }

    /// @notice How voters judge a model in dispute.
    enum Mode {
        Direct, // the delivered package itself, on the verification data
        Paper // the seller's low-quality parameter sets, of which the buyer picks two or three (IV-D)
    }

    /// @notice How far a trade has come.
    enum State {
        None,
        Offered,
        Preparing,
        Keys,
        Addresses,
        Inspecting,
        Disputed,
        Ended
    }

    /// @notice A side's steps, bits of `Trade.sellerDone` and `Trade.buyerDone` by their number.
    enum Step {
        Preparation, // the package is stored and committed to, or the price paid
        Key, // a symmetric key is sealed to the other side
        Address, // the package's address is sealed to the other side
        Confirmation // the other side's package is as promised
    }

    /// @notice How a trade ended.
    enum Outcome {
        None,
        Withdrawn, // the buyer did not join within T0
        Expired, // a limit was missed
        Completed, // confirmed by all who receive
        Confirmed, // the voters found that the accused had done what it promised
        Rejected, // they found that it had not
        Undecided // no panel could be formed or it hardly spoke: as if confirmed in Inspecting, undone in Addresses
    }

    /// @notice What the two sides agree on; they have settled it by messages before.
    struct Terms {
        Kind kind;
        Mode mode;
        address seller; // who opens the trade
        address buyer; // who joins it
        uint64 sellerResource; // of the registry; what the seller hands over
        uint64 buyerResource; // what the buyer hands over in a swap; 0 in a sale
        uint96 price; // paid in a sale; in a swap what each model is worth to both
        uint96 sellerDeposit; // at least the price
        uint96 buyerDeposit; // at least the price
        uint24 t0; // limits, in seconds
        uint24 t1;
        uint24 t2;
        uint24 t3;
        uint24 tb;
        uint16 sellerAccuracy; // promised of the seller's model, in 1/10,000
        uint16 buyerAccuracy; // of the buyer's; 0 in a sale
        uint8 panelSize; // seats of a panel: odd, from 3 to the most that the panel permits
        bytes32 sellerVerification; // digest of the data on which the seller's model is judged
        bytes32 buyerVerification; // of that for the buyer's; 0 in a sale
        uint40 keysAt; // block of which the sides' encryption keys are, as the Registry had them; of a later one none is
    }

    /// @notice One trade.
    struct Trade {
        address seller;
        address buyer;
        uint96 price;
        uint96 sellerDeposit;
        uint96 buyerDeposit;
        uint24 t1;
        uint24 t2;
        uint24 t3;
        uint24 tb;
        uint40 deadline; // of the state, in seconds since 1970: the last second in which a duty can be done
        uint8 sellerDone; // bits by Step
        uint8 buyerDone;
        uint8 panelSize;
        Kind kind;
        State state;
        Outcome outcome;
        uint64 dispute; // the panel's case, 0 when there is none
    }

    /// @notice An account's faults.
    struct Conduct {
        uint32 faults; // ever
        uint8 streak; // since the last trade that it finished or the last block
        uint40 blockedUntil; // in seconds since 1970
    }

    /// @notice The seller offered a trade and paid its deposit.
    event Opened(uint64 indexed id, address indexed seller, address indexed buyer, Terms terms);

    /// @notice The buyer joined and paid its deposit.
    event Joined(uint64 indexed id, address indexed seller, address indexed buyer);

    /// @notice A side did a step. `digest` is the package's commitment (SHA-256 of salt || content CID), 0 for a payment
    /// and a confirmation, else that of the message.
    event Fulfilled(uint64 indexed id, address indexed by, Step step, bytes32 digest);

    /// @notice All duties of a state are done: the next began.
    event Advanced(uint64 indexed id, address indexed seller, address indexed buyer, State state, uint40 deadline);

    /// @notice A side says that the other did not hand over what it had promised, or that it cannot be had.
    event Disputed(uint64 indexed id, address indexed accuser, address indexed accused, uint64 dispute, bool missing);

    /// @notice A side shows the voters drawn what it was handed and what it handed over, in a document sealed to them.
    event EvidenceGiven(uint64 indexed id, address indexed by, bytes32 digest);

    /// @notice The trade is over; what is owed is credited, or was paid out to the caller.
    event Ended(
        uint64 indexed id,
        address indexed seller,
        address indexed buyer,
        Outcome outcome,
        uint256 toSeller,
        uint256 toBuyer
    );

    /// @notice An account missed a limit or lost a dispute; after `MAX_STREAK` of these in a row it is blocked.
    event Faulted(uint64 indexed id, address indexed account, State state, uint40 blockedUntil);

    /// @notice An account took its credit.
    event Withdrawn(address indexed account, uint256 amount);

    /// @notice An address that is to be a contract holds no code.
    error FairExchange_NotContract(address given);

    /// @notice Only the seller opens a trade.
    error FairExchange_NotSeller(address caller);

    /// @notice The two sides are one.
    error FairExchange_SameSides(address account);

    /// @notice The account has not joined the market.
    error FairExchange_NotMember(address account);

    /// @notice The resource belongs to someone else.
    error FairExchange_NotOwner(uint64 resource, address account);

    /// @notice The account ended too many trades badly in a row.
    error FairExchange_Blocked(address account, uint40 until);

    /// @notice A price of nothing.
    error FairExchange_NoPrice();

    /// @notice A deposit below the price would make it worth losing.
    error FairExchange_DepositBelowPrice(uint96 deposit, uint96 price);

    /// @notice A limit is shorter or longer than permitted.
    error FairExchange_LimitOutOfRange(uint24 limit, uint24 minimum, uint24 maximum);

    /// @notice An accuracy that is nothing, or above 10,000.
    error FairExchange_BadAccuracy(uint16 accuracy);

    /// @notice Nobody could judge the model: no verification data.
    error FairExchange_NoVerification();

    /// @notice A sale has nothing of the buyer's to hand over.
    error FairExchange_NothingToSwap();

    /// @notice The panel's size is not odd, or out of range.
    error FairExchange_BadPanelSize(uint8 size);

    /// @notice The panel would take no case for so small a share of the deposits.
    error FairExchange_BonusTooSmall(uint96 bonus, uint256 least);

    /// @notice Fewer voters have a free seat now than a dispute's panel has seats. The two sides, who would never judge
    /// their own, are counted if they are voters: it is a check of the market, and no promise of a verdict.
    error FairExchange_TooFewVoters(uint256 available, uint8 size);

    /// @notice There is no such trade.
    error FairExchange_NotFound(uint64 id);

    /// @notice The trade is in another state.
    error FairExchange_WrongState(uint64 id, State state);

    /// @notice The account has no part in the trade, or not this one.
    error FairExchange_NotParty(uint64 id, address account);

    /// @notice The step is not this side's, is done already, or another comes before it.
    error FairExchange_NotDue(uint64 id, address account, Step step);

    /// @notice The time for it is over.
    error FairExchange_DeadlinePassed(uint64 id, uint40 deadline);

    /// @notice There is time left.
    error FairExchange_DeadlineNotPassed(uint64 id, uint40 deadline);

    /// @notice A digest of zero names nothing.
    error FairExchange_NoDigest(uint64 id);

    /// @notice Nothing is credited to the account.
    error FairExchange_NoCredit(address account);

    // ----------------------------------------------------------------------------------------------- trade

    /// @notice Offer a trade to the buyer, and pay the seller's deposit; the seller only.
    /// @return id Counted from 1.
    function open(Terms calldata terms) external returns (uint64 id);

    /// @notice Accept it within T0, and pay the buyer's deposit; the buyer only.
    function join(uint64 id) external;

    /// @notice Commit to the package that is stored; who hands over a model.
    /// @param package SHA-256 of salt || content CID.
    function prepare(uint64 id, bytes32 package) external;

    /// @notice Pay the price, to be held; the buyer in a sale.
    function pay(uint64 id) external;

    /// @notice Hand the symmetric key over, sealed; who receives a model. (Fig. 4, step 2.)
    /// @param message Digest of the message.
    function passKey(uint64 id, bytes32 message) external;

    /// @notice Hand the package's address over, sealed; who hands over a model, once it has the other's key. (Step 4.)
    /// @param message Digest of the message.
    function passAddress(uint64 id, bytes32 message) external;

    /// @notice Say that the model is as promised; who receives it. The last to do so ends the trade, and what it is
    /// itself owed then is paid to it at once.
    function confirm(uint64 id) external;

    /// @notice Have voters judge. In Addresses: who has not passed its address yet says that the other's key message is
    /// not good. In Inspecting: who has not confirmed says that what the other handed over is not as promised.
    /// @param missing It says that it cannot be had. Nobody can tell later whether it could: if voters find it there and
    /// good, the accuser of a sale pays them alone, and all else is as if it had confirmed. In a swap it loses as ever.
    function dispute(uint64 id, bool missing) external;

    /// @notice Put evidence for the voters on record, as often as new ones are drawn; the two sides, in a dispute only.
    /// @param document Digest of the document.
    function submitEvidence(uint64 id, bytes32 document) external;

    /// @notice End a trade on the panel's verdict; anyone may. The winner has both deposits but what the voters earned:
    /// the bonus, or nothing if none of them revealed. Undecided, both bear half of that. No stake that a voter lost
    /// comes to a side. Where it was said to be missing and is there, each has its own deposit back, the accuser less
    /// the bonus, and nobody is at fault.
    function settle(uint64 id) external;

    /// @notice End a trade of which a limit was missed; anyone may.
    function expire(uint64 id) external;

    /// @notice Take out what is credited.
    function withdraw() external;

    // ----------------------------------------------------------------------------------------------- views

    /// @notice The trade with this id.
    function trade(uint64 id) external view returns (Trade memory);

    /// @notice How many trades were ever opened: their ids are 1 to this number.
    function tradeCount() external view returns (uint64);

    /// @notice An account's faults.
    function conductOf(address account) external view returns (Conduct memory);

    /// @notice What an account can take out.
    function creditOf(address account) external view returns (uint256);

    /// @notice What the voters of a dispute share when the deposits are these: `BONUS_BPS` of the smaller.
    function bonusOf(uint96 sellerDeposit, uint96 buyerDeposit) external view returns (uint96);

    /// @notice The money.
    function token() external view returns (address);

    /// @notice Where members and resources are.
    function registry() external view returns (address);

    /// @notice Who judges.
    function panel() external view returns (address);

    /// @notice The voters' share of the smaller deposit, in 1/10,000.
    function BONUS_BPS() external view returns (uint16);

    /// @notice The shortest and the longest limit, in seconds.
    function MIN_LIMIT() external view returns (uint24);
    function MAX_LIMIT() external view returns (uint24);

    /// @notice Faults in a row after which an account is blocked.
    function MAX_STREAK() external view returns (uint8);

    /// @notice For how long, in seconds.
    function BLOCK_TIME() external view returns (uint40);
}
