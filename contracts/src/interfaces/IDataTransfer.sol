// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title IDataTransfer
/// @notice Money against data, in the chain's own coin: held until the consumer has verified what the provider gave,
/// or somebody whom both accepted has ruled.
/// @dev "Blockchain-Based platform for Distribution AI", 4.2 to 4.4 and Appendix A, Listing 1: the same functions, in
/// one contract for all transfers. A transfer takes one slot of its consumer's, which holds a hash of the deal and what
/// has happened to it; the deal itself is in the event `Initiated`, and everyone who does something gives it back. A
/// slot that was used is cheaper to use again, and counts its transfers, so that no two deals are ever alike.
///
/// What the paper's public variables told, `Deal` and `State` tell; two of them are in the event `DataProvided` only.
///
/// All times follow from the deal. Each wait has an end, which the paper's have not:
///
///     until                                     | who may act                         | and from then on
///     expirationTime                            | the provider provides               | the consumer cancels
///     expirationTime + duration, once provided  | the consumer verifies, or requests  | the provider is paid
///                                               | a refund; the provider, a settlement|
///     expirationTime + 2 * duration, once a     | the authority rules, or the request | divided; where nobody
///     refund was requested, too                 | is put before the panel             | asked the panel: paid
///
/// The authority is an account, which both sides trust, or the `VotingPanel`. An account rules on request only, and in
/// time. The panel is asked by `contest`, which takes its bonus from whoever calls; anyone executes its finding.
///
/// Where nobody ruled (an authority that is silent, or a panel without a verdict), each side has half. It is not known
/// then who was right: either of them having all of it would pay whoever is dishonest for choosing an authority that
/// never answers, and half is the least that the honest one can be made to lose. A refund on which nobody asked the
/// panel is not such a case: who had the data and left its request alone pays for them.
///
/// Payments are direct, with no more gas than the paper's `transfer` gives: one transaction less than credits, and none
/// from which anybody can call back. Whoever refuses a payment, or needs more gas, is credited, and locks nobody's
/// money but its own.
///
/// What it does not resist. An authority that sides with one of the two: both have accepted it. A consumer that calls
/// good data bad before an authority which never answers has them for half the price, and a provider of bad ones gets
/// half. What `provideData` gives is readable before it is mined: a provider who sends it in the last seconds may be
/// too late and have given its data away. Who puts a request before the panel pays the voters, whatever they find.
interface IDataTransfer {
    /// @notice How a transfer ended.
    enum Outcome {
        Cancelled, // nothing was provided: the consumer has its money back
        Verified, // the consumer said that the data are good
        Refunded, // ruled for the consumer
        Settled, // ruled for the provider
        Lapsed, // the consumer was silent, or did not go on with its request: the provider is paid
        Divided // nobody ruled: half each, of an odd amount the provider has one unit more
    }

    /// @notice What a transfer was opened with; none of it ever changes.
    struct Deal {
        address dataConsumer;
        address dataProvider;
        address authority; // who rules: an account, or the panel
        bytes32 ipfsSchemaAddress; // digest of the data's schema
        bytes32 ipfsConsumerPubKeyAddress; // digest of the key to which the data's key is to be sealed
        uint256 amount; // in the coin's smallest unit
        uint40 expirationTime; // the last second in which the provider can provide
        uint32 duration; // of each wait, in seconds
        uint32 slot; // of the consumer's
        uint64 nonce; // how many transfers the slot had before
        uint8 panelSize; // seats, where the authority is the panel; else 0
    }

    /// @notice How far a transfer has come.
    struct State {
        bool open; // everything else is zero where it is not: it ended, or never was
        bool dataProvided;
        bool requestedForcefulRefund;
        bool requestedForcefulSettle;
        bool contested; // before the panel: only the consumer's request, and `resolve`, are left
        uint40 deadline; // the last second of the wait; says nothing while contested
        uint64 panelCase; // while contested, else 0
    }

    /// @notice A transfer was opened and paid for.
    /// @param id As `idOf` gives; no other transfer ever has it.
    event Initiated(uint256 indexed id, address indexed dataConsumer, address indexed dataProvider, Deal deal);

    /// @notice The provider provided.
    /// @param ipfsEncryptedAesKeyAddress Digest of the key of the data, sealed to the consumer's.
    /// @param ipfsDataAddress Digest of the encrypted data.
    event DataProvided(
        uint256 indexed id,
        address indexed dataConsumer,
        address indexed dataProvider,
        bytes32 ipfsEncryptedAesKeyAddress,
        bytes32 ipfsDataAddress
    );

    /// @notice The consumer wants its money back.
    event ForcefulRefundRequested(
        uint256 indexed id, address indexed dataConsumer, address indexed dataProvider, address authority
    );

    /// @notice The provider wants to be paid.
    event ForcefulSettleRequested(
        uint256 indexed id, address indexed dataConsumer, address indexed dataProvider, address authority
    );

    /// @notice The panel was asked; its case accuses the provider.
    /// @param by Who paid the bonus.
    event Contested(uint256 indexed id, address indexed by, uint64 panelCase);

    /// @notice The panel gave no verdict on a settlement, and the consumer had not complained: the transfer goes on as
    /// if it had not been requested.
    event Dismissed(uint256 indexed id, uint64 panelCase);

    /// @notice A transfer ended, and its money was paid.
    event Ended(uint256 indexed id, address indexed dataConsumer, address indexed dataProvider, Outcome outcome);

    /// @notice An account did not take a payment, and was credited.
    event Credited(address indexed account, uint256 amount);

    /// @notice A bonus that no voter earned was credited to who had paid it, in the panel's token.
    event BonusCredited(address indexed account, uint256 amount);

    /// @notice An account's credit was paid.
    event Withdrawn(address indexed account, uint256 amount);

    /// @notice An account's bonuses were paid, in the panel's token.
    event BonusWithdrawn(address indexed account, uint256 amount);

    /// @notice An address that is to be a contract holds no code.
    error DataTransfer_NotContract(address given);

    /// @notice A transfer is paid for when it is opened.
    error DataTransfer_NoPayment();

    /// @notice A digest of zero names nothing.
    error DataTransfer_NoDigest();

    /// @notice Consumer, provider and authority are three, none of them the zero address.
    error DataTransfer_BadParties();

    /// @notice A duration is from `MIN_DURATION` to `MAX_DURATION` seconds.
    error DataTransfer_BadDuration(uint32 given);

    /// @notice A panel has an odd number of seats, from 3 to the most that the panel permits; any other authority 0.
    error DataTransfer_BadPanelSize(uint8 size);

    /// @notice The slot holds a transfer that has not ended.
    error DataTransfer_SlotTaken(uint32 slot);

    /// @notice No open transfer has this deal: it ended, or never was.
    error DataTransfer_NotFound(uint256 id);

    /// @notice This is another one's to do.
    error DataTransfer_NotAllowed(uint256 id, address caller, address allowed);

    /// @notice Not in this state of the transfer.
    error DataTransfer_WrongState(uint256 id);

    /// @notice The time for it is over.
    error DataTransfer_DeadlinePassed(uint256 id, uint256 deadline);

    /// @notice There is time left.
    error DataTransfer_DeadlineNotPassed(uint256 id, uint256 deadline);

    /// @notice The authority is not the panel.
    error DataTransfer_NotPanel(uint256 id, address authority);

    /// @notice Nothing is credited to the account.
    error DataTransfer_NoCredit(address account);

    /// @notice The account did not take its credit, with all gas.
    error DataTransfer_Refused(address account);

    // ------------------------------------------------------------------------------------------- the paper's

    /// @notice Open a transfer and pay for it; the data consumer. Whoever is named finds the deal in `Initiated`, and
    /// provides only if it agrees to all of it, the authority included.
    /// @param slot Of the caller's; a free one, as `vacancy` tells.
    /// @param dataProvider Who is to provide.
    /// @param ipfsSchemaAddress Digest of the data's schema.
    /// @param ipfsConsumerPubKeyAddress Digest of the key to which the data's key is to be sealed.
    /// @param authority Who rules: an account, or the panel.
    /// @param duration Of each wait, in seconds.
    /// @param panelSize Seats, where the authority is the panel; else 0.
    /// @return id As `idOf` gives.
    function initTransaction(
        uint32 slot,
        address dataProvider,
        bytes32 ipfsSchemaAddress,
        bytes32 ipfsConsumerPubKeyAddress,
        address authority,
        uint32 duration,
        uint8 panelSize
    ) external payable returns (uint256 id);

    /// @notice Say where the data and their sealed key are; the provider, in time and once.
    /// @param deal As in `Initiated`; for every function that takes one.
    /// @param ipfsEncryptedAesKeyAddress Digest of the key of the data, sealed to the consumer's.
    /// @param ipfsDataAddress Digest of the encrypted data.
    function provideData(Deal calldata deal, bytes32 ipfsEncryptedAesKeyAddress, bytes32 ipfsDataAddress) external;

    /// @notice Take the money back where nothing was provided in time; the consumer.
    function cancel(Deal calldata deal) external;

    /// @notice Say that the data are good, and pay; the consumer, whenever the panel is not busy with it.
    function verifiedData(Deal calldata deal) external;

    /// @notice Ask for the money back; the consumer, in time and once, also while the panel is busy with a settlement.
    function requestForcefulRefund(Deal calldata deal) external;

    /// @notice Ask to be paid at once; the provider, once it has provided, in time and once.
    function requestForcefulSettle(Deal calldata deal) external;

    /// @notice Rule for the consumer; the authority, in time, if a refund was requested.
    function executeForcefulRefund(Deal calldata deal) external;

    /// @notice Rule for the provider; the authority, in time, if data were provided and anything was requested.
    function executeForcefulSettle(Deal calldata deal) external;

    // ------------------------------------------------------------------------------------- what it leaves open

    /// @notice Put what was requested before the panel, once data were provided and in time; anyone may. Pulls the
    /// bonus from the caller, in the panel's token: `panelSize` times what a seat costs.
    function contest(Deal calldata deal) external;

    /// @notice Execute what the panel has found; anyone may. Without a verdict the money is divided if a refund was
    /// requested, and else the transfer goes on as before.
    function resolve(Deal calldata deal) external;

    /// @notice End a transfer for which data were provided and whose time is over, as the table above says; anyone may.
    function expire(Deal calldata deal) external;

    /// @notice Pay an account what it was credited; anyone may.
    function withdraw(address account) external;

    /// @notice Pay an account the bonuses that it was credited, in the panel's token; anyone may.
    function withdrawBonus(address account) external;

    // ----------------------------------------------------------------------------------------------- views

    /// @notice How far the transfer with this deal has come.
    function stateOf(Deal calldata deal) external view returns (State memory);

    /// @notice Whether a transfer can be opened in a slot, and how many it has had: none is dearest.
    /// @return vacant Whether it can.
    /// @return nonce How many; 0 while it is taken.
    function vacancy(address dataConsumer, uint32 slot) external view returns (bool vacant, uint64 nonce);

    /// @notice What a transfer is called in events and before the panel: the consumer's 160 bits, the slot's 32 and the
    /// nonce's 64.
    function idOf(address dataConsumer, uint32 slot, uint64 nonce) external pure returns (uint256);

    /// @notice What is credited to an account.
    function creditOf(address account) external view returns (uint256);

    /// @notice What bonuses are credited to an account, in the panel's token.
    function bonusCreditOf(address account) external view returns (uint256);

    /// @notice Who rules where both sides chose it.
    function panel() external view returns (address);

    /// @notice The panel's money.
    function token() external view returns (address);

    /// @notice The shortest duration, in seconds.
    function MIN_DURATION() external view returns (uint32);

    /// @notice The longest duration, in seconds.
    function MAX_DURATION() external view returns (uint32);
}
